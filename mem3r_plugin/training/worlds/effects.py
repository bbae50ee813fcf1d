"""What a camera in motion does to pictures: long exposures, rows read one after the other, compression.

Motion blur and rolling shutter need no further rendering. How far a pixel moves in one path frame follows
from its depth and the camera's motion; a picture is the mean of a few copies of the sharp one, each moved by
what happened until its rows were exposed. At the outlines of near things this is only nearly true.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.shares import check_share
from mem3r_plugin.training.worlds.photometry import disturb

_COPIES = 5
"""Moments of an exposure that are averaged."""
_FARTHEST_FLOW = 0.12
"""Widths of the picture by which a pixel moves in a frame at most; more would tear pictures apart."""
_SKY = 1000.0
"""Metres to what has no depth."""
_QUALITY = (60, 98)
"""JPEG qualities. Pictures are compressed at their final size, where lower ones are worse than any video."""
_METERING = (0.03, 0.4)
"""Part of the way to the right exposure that a camera goes in a path frame."""


@dataclass(frozen=True)
class CameraEffects:
    """Effects of real cameras besides those that every picture has; each is off at 0.

    Exposure, white balance, tone, vignetting, blur and noise come with `photometric` and need no switch.
    """

    motion_blur: float = 0.0
    """Longest exposure in path frames, 0 to 1; every sequence draws its own."""
    rolling_shutter: float = 0.0
    """Longest time from the first row to the last in path frames, 0 to 1; the truth is the middle row's."""
    auto_exposure: float = 0.0
    """Share of sequences whose exposure follows the pictures instead of drifting, 0 to 1."""
    jpeg: float = 0.0
    """Share of sequences compressed as JPEG, 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigError: a value is not between 0 and 1.
        """
        for field in fields(self):
            check_share(field.name, getattr(self, field.name))


def take(
    images: Tensor,
    depth: Tensor,
    motion: Tensor,
    intrinsics: Intrinsics,
    seed: int,
    effects: CameraEffects,
    stride: int = 1,
) -> Tensor:
    """Pictures as a real camera would have taken them.

    Args:
        images: clean RGB in [0, 1], (T, 3, H, W).
        depth: z-depth in metres, 0 for sky, (T, H, W).
        motion: camera motion during the path frame around each view: the pose at its end in the axes of
            the pose at its beginning, float64, (T, 4, 4).
        intrinsics: the camera.
        seed: the same seed gives the same effects on the same kind of device.
        effects: which ones.
        stride: path frames from one view to the next.

    Returns:
        images of the same shape, in [0, 1].
    """
    rng = np.random.default_rng([seed, 8])
    exposure, readout, metered, compressed = rng.random(4)
    exposure, readout = exposure * effects.motion_blur, readout * effects.rolling_shutter
    rate = float(np.exp(rng.uniform(*np.log(_METERING))))
    quality = int(rng.integers(_QUALITY[0], _QUALITY[1] + 1))
    if exposure + readout > 0:
        images = _exposed(images, pixel_motion(depth, motion, intrinsics), exposure, readout)
    metering = 1 - (1 - rate) ** stride if metered < effects.auto_exposure else 0.0
    images = disturb(images, seed, metering)
    return _compressed(images, quality) if compressed < effects.jpeg else images


def pixel_motion(depth: Tensor, motion: Tensor, intrinsics: Intrinsics) -> Tensor:
    """Pixels by which what each pixel shows moves in the picture, (T, 2, H, W), x and y.

    Args:
        depth: z-depth in metres, 0 for sky, (T, H, W).
        motion: the camera's later pose in the axes of the earlier one, (T, 4, 4).
        intrinsics: the camera.
    """
    height, width = depth.shape[-2:]
    matrix = torch.from_numpy(intrinsics.matrix).to(depth.device)
    back = torch.linalg.inv(motion.to(depth.device))
    # Homogeneous pixels and inverse depth to the later picture; everything up to here is float64.
    turn = (matrix @ back[:, :3, :3] @ torch.linalg.inv(matrix)).float()[..., None, None]
    shift = (matrix @ back[:, :3, 3:])[..., 0].float()[..., None, None]
    x = (torch.arange(width, device=depth.device) + 0.5)[None, None]
    y = (torch.arange(height, device=depth.device) + 0.5)[None, :, None]
    inverse = 1 / torch.where(depth > 0, depth, _SKY)
    u, v, w = (
        turn[:, axis, 0] * x + turn[:, axis, 1] * y + turn[:, axis, 2] + shift[:, axis] * inverse
        for axis in range(3)
    )
    w = w.clamp(min=0.1)
    limit = _FARTHEST_FLOW * width
    return torch.stack([u / w - x, v / w - y], dim=1).clamp(-limit, limit)


def _exposed(images: Tensor, flow: Tensor, exposure: float, readout: float) -> Tensor:
    """Images (T, 3, H, W) whose rows are read one after the other, each exposed that long."""
    height, width = images.shape[-2:]
    scale = images.new_tensor([2 / width, 2 / height])
    x = (torch.arange(width, device=images.device) + 0.5) * scale[0] - 1
    y = (torch.arange(height, device=images.device) + 0.5) * scale[1] - 1
    still = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
    flow = flow.permute(0, 2, 3, 1) * scale
    row = readout * 0.5 * y[:, None, None]
    copies = _COPIES if exposure > 0 else 1
    total = torch.zeros_like(images)
    for moment in torch.arange(copies) - (copies - 1) / 2:
        time = row + exposure * float(moment) / copies
        total += functional.grid_sample(
            images, still - time * flow, padding_mode="border", align_corners=False
        )
    return total / copies


def _compressed(images: Tensor, quality: int) -> Tensor:
    """Images through JPEG, with its usual halved colour resolution."""
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    for index, picture in enumerate(pixels):
        blue_first = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels[index] = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    return torch.from_numpy(pixels).to(images.device).permute(0, 3, 1, 2).contiguous() / 255
