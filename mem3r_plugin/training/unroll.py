"""The network unrolled over sequences, as one module with one forward pass per batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.heads import FrameOutput, HeadName
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.training.batch import SequenceBatch
from mem3r_plugin.training.config import LossWeights
from mem3r_plugin.training.losses import (
    depth_loss,
    edge_loss,
    log_depth_error,
    motion_loss,
    patch_flow_loss,
    point_loss,
    pose_loss,
    rgb_loss,
    sequence_scale,
)
from mem3r_plugin.training.matching import PARTS, TokenFlow

VIEWS_AT_ONCE = 8
"""Views whose encoder or head activations are recomputed together: enough to keep a GPU busy."""


class UnrolledNetwork(nn.Module):
    """Losses of whole sequences; what accelerate wraps for more than one device.

    Encoder and heads need no state, so they see all views at once; only the recurrence goes view by view.
    """

    def __init__(
        self,
        network: ReconstructionNetwork,
        weights: LossWeights,
        truncate: int = 0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.patch_flow = (
            nn.Linear(network.config.decoder.width, PARTS * 2) if weights.patch_flow else None
        )
        self.token_flow = TokenFlow(network.config.encoder) if weights.token_flow else None
        self.weights = weights
        self.truncate = truncate
        self.checkpoint_activations = checkpoint_activations
        wanted: dict[HeadName, float] = {
            "self": weights.points_self or weights.depth or weights.edges,
            "world": weights.points_world,
            "rgb": weights.rgb,
        }
        self.heads: tuple[HeadName, ...] = tuple(head for head, weight in wanted.items() if weight)

    def forward(
        self,
        batch: SequenceBatch,
        asked: int | None = None,
        dense_views: int | None = None,
        encoder_only: bool = False,
    ) -> dict[str, Tensor]:
        """Loss terms by the names of their weights.

        Args:
            batch: sequences with their ground truth.
            asked: index of a view that is given by its rays alone and changes nothing; None for none.
            dense_views: how many views' dense heads are computed; None for all.
            encoder_only: ask the encoder's tokens only.
        """
        height, width = batch.images.shape[-2:]
        grid = (height // PATCH, width // PATCH)
        if encoder_only:
            return self.token_losses(self.encode_all(batch), batch, grid)
        tokens, levels = self.unroll(batch, grid, asked)
        terms = self.pose_losses(levels[-1], batch)
        if chosen := chosen_views(tokens.shape[1], asked, dense_views):
            terms |= self.dense_losses(tokens, levels, batch, grid, asked, chosen)
        if self.patch_flow is not None:
            parts = self.patch_flow(levels[-1][:, 1:, 1:]).unflatten(-1, (PARTS, 2))
            terms["patch_flow"] = patch_flow_loss(parts, batch)
        return terms | self.token_losses(tokens, batch, grid)

    def token_losses(
        self, tokens: Tensor, batch: SequenceBatch, grid: tuple[int, int]
    ) -> dict[str, Tensor]:
        """What the encoder's tokens (B, T, N, width) tell of the motion from view to view."""
        if self.token_flow is None:
            return {}
        return {"token_flow": patch_flow_loss(self.token_flow(tokens, grid), batch)}

    def unroll(
        self, batch: SequenceBatch, grid: tuple[int, int], asked: int | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Encoder tokens (B, T, N, width) and the decoder's levels (B, T, 1 + N, width) of all views."""
        sequences, views = batch.images.shape[:2]
        tokens = self.encode_all(batch)
        if asked is not None:
            rays = self.network.encode_views(None, batch.ray_maps[:, asked])
            tokens = torch.cat(
                [tokens[:, :asked], rays.unsqueeze(1).to(tokens), tokens[:, asked + 1 :]], dim=1
            )
        state = self.network.initial_state(sequences)
        decoded = []
        for view in range(views):
            if self.truncate and view and view % self.truncate == 0:
                state = state.detach()
            recurrence, state = self.recomputed(
                self.network.recur, state, tokens[:, view], grid, update=view != asked
            )
            decoded.append(recurrence.decoded.levels)
        middle, late, last = (torch.stack(level, dim=1) for level in zip(*decoded, strict=True))
        return tokens, (middle, late, last)

    def encode_all(self, batch: SequenceBatch) -> Tensor:
        """Encoder tokens (B, T, N, width) of all views."""
        return self.encode(batch.images.flatten(0, 1)).unflatten(0, batch.images.shape[:2])

    def encode(self, images: Tensor) -> Tensor:
        """Encoder tokens (N, tokens, width) of images (N, 3, H, W)."""
        if not self.recomputes:
            return self.network.encode(images)
        parts = images.split(VIEWS_AT_ONCE)
        return torch.cat([self.recomputed(self.network.encode, part) for part in parts])

    def read_out(
        self, tokens: Tensor, levels: tuple[Tensor, Tensor, Tensor], grid: tuple[int, int]
    ) -> FrameOutput:
        """The heads' answer for N views."""
        if not self.recomputes:
            return self.network.read_out(tokens, levels, grid, self.heads)
        parts = zip(*(tensor.split(VIEWS_AT_ONCE) for tensor in (tokens, *levels)), strict=True)
        return joined(
            [
                self.recomputed(self.network.read_out, part, some_levels, grid, self.heads)
                for part, *some_levels in parts
            ]
        )

    @property
    def recomputes(self) -> bool:
        """Whether activations are recomputed in the backward pass rather than kept."""
        return self.checkpoint_activations and self.training

    def recomputed(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What a part of the network gives, keeping only its inputs for the backward pass if so wanted."""
        if not self.recomputes:
            return function(*arguments, **options)
        return checkpoint(function, *arguments, use_reentrant=False, **options)

    def pose_losses(self, last: Tensor, batch: SequenceBatch) -> dict[str, Tensor]:
        """Pose of every view, from the decoder's last level (B, T, 1 + N, width)."""
        scale = sequence_scale(batch)
        pose = self.network.heads.camera_pose(last[:, :, 0])
        return {
            "pose": pose_loss(pose, batch.poses, scale),
            "motion": motion_loss(pose, batch.poses, scale),
        }

    def dense_losses(
        self,
        tokens: Tensor,
        levels: tuple[Tensor, Tensor, Tensor],
        batch: SequenceBatch,
        grid: tuple[int, int],
        asked: int | None,
        chosen: list[int],
    ) -> dict[str, Tensor]:
        """What the dense heads say of the views chosen for them."""
        middle, late, last = (level[:, chosen].flatten(0, 1) for level in levels)
        output = self.read_out(tokens[:, chosen].flatten(0, 1), (middle, late, last), grid)
        shape, scale = (len(tokens), len(chosen)), sequence_scale(batch)
        terms = {}
        for name, points, confidence in (
            ("points_self", output.points_self, output.confidence_self),
            ("points_world", output.points_world, output.confidence_world),
        ):
            if points is not None and confidence is not None:
                terms[name] = point_loss(
                    points.unflatten(0, shape),
                    confidence.unflatten(0, shape),
                    getattr(batch, name)[:, chosen],
                    batch.valid[:, chosen],
                    scale,
                    self.weights.confidence,
                )
        if output.points_self is not None and (self.weights.depth or self.weights.edges):
            error = log_depth_error(
                output.points_self[..., 2].unflatten(0, shape), batch.depth[:, chosen], scale
            )
            terms["depth"] = depth_loss(error, batch.valid[:, chosen])
            terms["edges"] = edge_loss(error, batch.valid[:, chosen])
        if output.rgb is not None and asked is not None:
            rgb = output.rgb.unflatten(0, shape)[:, chosen.index(asked)]
            terms["rgb"] = rgb_loss(rgb, batch.images[:, asked])
        return terms


def chosen_views(views: int, asked: int | None, wanted: int | None) -> list[int]:
    """Views whose dense heads are computed, spread evenly, the one asked by rays always among them."""
    wanted = views if wanted is None else wanted
    chosen = {round(index * (views - 1) / max(1, wanted - 1)) for index in range(wanted)}
    return sorted(chosen if asked is None else chosen | {asked})


def joined(outputs: list[FrameOutput]) -> FrameOutput:
    """The answers for some views after the other, as one."""

    def join(name: str) -> Any:
        parts = [getattr(output, name) for output in outputs]
        return None if parts[0] is None else torch.cat(parts)

    return FrameOutput(**{field.name: join(field.name) for field in fields(FrameOutput)})
