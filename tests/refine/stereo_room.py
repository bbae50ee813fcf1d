"""The room of `tests.room_scan` papered with texture, as stereo sees it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.refine.depth.views import View
from tests.room_scan import room_depth, room_points

CAMERA = Intrinsics.centred(70.0, 80, 60)
BLANK_BELOW = 0.5
"""World y below which (the floor side) the walls are of one even colour."""


def pose(index: int) -> NDArray[np.float64]:
    """A sidestep to the right without turning."""
    return pose_matrix(np.eye(3), [0.1 * index, 0.02 * index, 0.0])


def paper(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness in [0, 1] of the papered walls: sums of waves in many directions."""
    generator = np.random.default_rng(0)
    waves = generator.normal(size=(24, 3)) * 6
    phases = generator.uniform(0, 2 * np.pi, 24)
    texture = np.sin(points @ waves.T + phases).mean(axis=-1)
    return np.where(points[..., 1] < BLANK_BELOW, np.clip(0.5 + texture, 0, 1), 0.5)


def brightness(index: int) -> NDArray[np.float64]:
    return paper(room_points(CAMERA, pose(index)))


def view(index: int) -> View:
    return View(torch.from_numpy(brightness(index)).float(), CAMERA, pose(index))


def picture(index: int) -> NDArray[np.uint8]:
    return np.repeat(np.rint(255 * brightness(index)).astype(np.uint8)[..., None], 3, axis=-1)


def true_depth(index: int) -> NDArray[np.float64]:
    return room_depth(CAMERA, pose(index))


def papered(index: int) -> NDArray[np.bool_]:
    """Pixels that see texture."""
    return room_points(CAMERA, pose(index))[..., 1] < BLANK_BELOW - 0.1


def structure(index: int) -> NDArray[np.float64]:
    """World points that structure from motion would know."""
    points = room_points(CAMERA, pose(index))[papered(index)]
    return points[::37]
