"""What the network says about a frame: points in its own view and in the world, colours, and the pose."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mem3r_plugin.model.blocks import MLP, ModulatedBlock
from mem3r_plugin.model.config import NetworkConfig
from mem3r_plugin.model.dpt import DPTHead
from mem3r_plugin.model.precision import in_float32, working_dtype
from mem3r_plugin.model.rotary import image_rotary

HeadName = Literal["self", "world", "rgb"]
"""Dense heads: points in the camera's frame, points in the world's, colours."""

WORLD_BLOCKS = 2
"""Blocks that bring tokens to the world's frame under the pose token."""


@dataclass(frozen=True)
class FrameOutput:
    """The network's answer for a batch of frames; heads that were not asked for are None."""

    pose: Tensor
    """Camera-to-world (batch, 7): translation xyz, unit quaternion wxyz with w >= 0; OpenCV axes."""
    points_self: Tensor | None = None
    """Points in the camera's own frame (batch, height, width, 3)."""
    confidence_self: Tensor | None = None
    """Their confidence, at least 1, (batch, height, width)."""
    points_world: Tensor | None = None
    """Points in the world, the first camera's frame (batch, height, width, 3)."""
    confidence_world: Tensor | None = None
    """Their confidence, at least 1, (batch, height, width)."""
    rgb: Tensor | None = None
    """Colours in (-1, 1), (batch, height, width, 3)."""

    @property
    def camera_to_world(self) -> Tensor:
        """The pose as matrices (batch, 4, 4)."""
        return pose_matrix(self.pose)


def decode_pose(raw: Tensor) -> Tensor:
    """Raw pose (…, 7) to translation and unit quaternion wxyz (…, 7)."""
    raw = raw.float()
    translation, quaternion = raw[..., :3], raw[..., 3:]
    distance = torch.linalg.vector_norm(translation, dim=-1, keepdim=True)
    translation = translation * (torch.expm1(distance) / distance.clamp_min(1e-8))
    quaternion = F.normalize(quaternion, dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return torch.cat([translation, quaternion], dim=-1)


def pose_matrix(pose: Tensor) -> Tensor:
    """Translation and quaternion wxyz (…, 7) as rigid 4x4 matrices (…, 4, 4)."""
    w, x, y, z = pose[..., 3:].unbind(-1)
    two = 2 / (pose[..., 3:] ** 2).sum(-1)
    zero, one = torch.zeros_like(w), torch.ones_like(w)
    tx, ty, tz = pose[..., :3].unbind(-1)
    rows = [
        [1 - two * (y * y + z * z), two * (x * y - z * w), two * (x * z + y * w), tx],
        [two * (x * y + z * w), 1 - two * (x * x + z * z), two * (y * z - x * w), ty],
        [two * (x * z - y * w), two * (y * z + x * w), 1 - two * (x * x + y * y), tz],
        [zero, zero, zero, one],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def decode_points(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Raw (…, 4) to points (…, 3), stretched exponentially along their ray, and confidence (…) >= 1."""
    raw = raw.float()
    direction, confidence = raw[..., :3], raw[..., 3]
    distance = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    points = direction / distance.clamp_min(1e-8) * torch.expm1(distance)
    return points, 1 + torch.exp(confidence)


def decode_rgb(raw: Tensor) -> Tensor:
    """Raw (…, 3) to colours in (-1, 1)."""
    return 2 * (torch.sigmoid(raw.float()) * (1 - 2e-6) + 1e-6 - 0.5)


class Heads(nn.Module):
    """The pose head and the three dense heads."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        encoder_width, width = config.encoder.width, config.decoder.width
        image_heads = config.decoder.image_heads
        self.head_channels = width // image_heads
        self.pose = MLP(width, out=7)
        self.points_self = DPTHead(encoder_width, width, 4, config.dpt)
        self.points_world = DPTHead(encoder_width, width, 4, config.dpt)
        self.rgb = DPTHead(encoder_width, width, 3, config.dpt)
        self.to_world = nn.ModuleList(
            ModulatedBlock(width, image_heads) for _ in range(WORLD_BLOCKS)
        )

    def forward(
        self,
        image_tokens: Tensor,
        levels: tuple[Tensor, Tensor, Tensor],
        grid: tuple[int, int],
        heads: Collection[HeadName],
    ) -> FrameOutput:
        """Answer for a batch of decoded frames; only the dense heads named in `heads` are computed.

        Args:
            image_tokens: encoder tokens (batch, rows * columns, encoder width).
            levels: decoder tokens, pose token first, as in `Decoded.levels`.
            grid: rows and columns of the patch grid.
            heads: dense heads wanted; the pose always comes.
        """
        pose_token, patches = levels[-1][:, 0], levels[-1][:, 1:]
        middle, late = (level[:, 1:] for level in levels[:2])
        maps = (image_tokens, middle, late)
        points_self = confidence_self = points_world = confidence_world = rgb = None
        if "self" in heads:
            points_self, confidence_self = decode_points(self.points_self((*maps, patches), grid))
        if "world" in heads:
            in_world = self.tokens_in_world(patches, pose_token, grid)
            points_world, confidence_world = decode_points(
                self.points_world((*maps, in_world), grid)
            )
        if "rgb" in heads:
            rgb = decode_rgb(self.rgb((*maps, patches), grid))
        return FrameOutput(
            self.camera_pose(pose_token),
            points_self, confidence_self, points_world, confidence_world, rgb,
        )  # fmt: skip

    def camera_pose(self, pose_token: Tensor) -> Tensor:
        """Camera-to-world pose (…, 7) from refined pose tokens (…, width)."""
        with in_float32(pose_token.device):
            return decode_pose(self.pose(pose_token.float()))

    def tokens_in_world(self, patches: Tensor, pose_token: Tensor, grid: tuple[int, int]) -> Tensor:
        """Image tokens (batch, tokens, width) seen from the world under the pose token (batch, width)."""
        device = patches.device
        rotary = image_rotary(*grid, self.head_channels, device, working_dtype(device))
        for block in self.to_world:
            patches = block(patches, pose_token, rotary)
        return patches
