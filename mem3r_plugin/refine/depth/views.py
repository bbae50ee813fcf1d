"""Posed grey pictures, and how a pixel of one moves through another as its depth changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose


@dataclass(frozen=True, eq=False)
class View:
    """A grey picture with its camera and pose."""

    grey: Tensor
    """Brightness in [0, 1], shape (H, W), float32."""
    camera: Intrinsics
    """The camera, at the size of `grey`."""
    camera_to_world: FloatArray
    """Pose, shape (4, 4), float64."""

    def smaller(self, factor: int) -> View:
        """The view with every `factor` x `factor` pixels averaged; a remainder is cut off."""
        height, width = self.grey.shape[0] // factor, self.grey.shape[1] // factor
        camera = self.camera
        return View(
            functional.avg_pool2d(self.grey[None], factor)[0],
            Intrinsics(
                camera.fx / factor,
                camera.fy / factor,
                camera.cx / factor,
                camera.cy / factor,
                width,
                height,
            ),
            self.camera_to_world,
        )


def projection_line(reference: View, other: View) -> tuple[Tensor, Tensor]:
    """Where every pixel of `reference` falls in `other`, as a function of its inverse depth.

    In homogeneous coordinates the pixel is ``start + inverse_depth * step``; its last coordinate
    is the depth in `other` over the depth in `reference`.

    Returns:
        `start` (3, H, W) and `step` (3, 1, 1), float32, on the device of the pictures.
    """
    world_to_other = relative_pose(other.camera_to_world, reference.camera_to_world)
    rays = reference.camera.unproject(
        reference.camera.pixel_centres(), np.ones(tuple(reference.grey.shape))
    )
    matrix = other.camera.matrix
    start = np.moveaxis(rays @ (matrix @ world_to_other[:3, :3]).T, -1, 0)
    step = (matrix @ world_to_other[:3, 3])[:, None, None]
    device = reference.grey.device
    return (
        torch.as_tensor(start, dtype=torch.float32, device=device),
        torch.as_tensor(step, dtype=torch.float32, device=device),
    )


def sample(values: Tensor, x: Tensor, y: Tensor, mode: str = "bilinear") -> Tensor:
    """Values (H, W) at pixel coordinates, whose pixel centres lie at half-integers.

    Args:
        values: A map.
        x: Coordinates of any shape (..., w).
        y: The same shape.
        mode: `bilinear` or `nearest`.

    Returns:
        The shape of `x`; the nearest border value outside the map.
    """
    height, width = values.shape
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], dim=-1)
    sampled = functional.grid_sample(
        values[None, None],
        grid.reshape(1, -1, grid.shape[-2], 2),
        mode=mode,
        padding_mode="border",
        align_corners=False,
    )
    return sampled.reshape(x.shape)


def inside(x: Tensor, y: Tensor, camera: Intrinsics) -> Tensor:
    """Whether pixel coordinates lie in a camera's picture; false for NaN."""
    return (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
