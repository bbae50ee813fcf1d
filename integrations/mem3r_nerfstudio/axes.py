"""Between our conventions and nerfstudio's: axes of cameras and of the world."""

from __future__ import annotations

import numpy as np

from mem3r_plugin.geometry.camera import FloatArray

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns a camera's y up, z backward (nerfstudio) into y down, z forward (ours); its own inverse."""

APPLIED_TRANSFORM = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""From a scan's world, whose -y is up at the first camera, to nerfstudio's, whose z is up.

It is what nerfstudio does to a COLMAP model, so that both of its dataparsers orient a scene alike."""


def to_nerfstudio(camera_to_world: FloatArray) -> FloatArray:
    """The `transform_matrix` (..., 4, 4) of a pose (..., 4, 4) of ours."""
    return APPLIED_TRANSFORM @ camera_to_world @ OPENCV_FROM_OPENGL


def from_nerfstudio(
    transform_matrix: FloatArray, applied_transform: FloatArray = APPLIED_TRANSFORM
) -> FloatArray:
    """The inverse of `to_nerfstudio`, for any rigid `applied_transform` (4, 4)."""
    return np.linalg.inv(applied_transform) @ transform_matrix @ OPENCV_FROM_OPENGL
