"""A smooth camera path along a scan, and the film it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mem3r_gsplat.optimise import Rendering
from mem3r_gsplat.views import View
from mem3r_plugin.errors import OutputError
from mem3r_plugin.files import atomic_path
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix

FRAMES_PER_SECOND = 30
_KNOTS_EVERY = 8
"""Frames from one pose that the path goes through to the next; the jitter between is left out."""


def smooth_path(camera_to_world: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Poses (frames, 4, 4) on a smooth curve along poses (N, 4, 4), from the first to the last."""
    from scipy.interpolate import CubicSpline
    from scipy.spatial.transform import Rotation, RotationSpline

    count = len(camera_to_world)
    if count == 1:
        return np.repeat(camera_to_world, frames, axis=0)
    knots = np.linspace(0, count - 1, max(2, round(count / _KNOTS_EVERY))).round().astype(int)
    chosen = camera_to_world[knots]
    times = np.linspace(0, count - 1, frames)
    rotations = RotationSpline(knots, Rotation.from_matrix(chosen[:, :3, :3]))(times)
    return pose_matrix(rotations.as_matrix(), CubicSpline(knots, chosen[:, :3, 3])(times))


def write_fly_through(
    file: Path,
    path: NDArray[np.float64],
    view: View,
    render: Callable[[View], Rendering],
) -> None:
    """Render Gaussians along a path and write the film.

    Args:
        file: An `.mp4` file.
        path: Camera-to-world poses (T, 4, 4).
        view: Gives camera and size of the film.
        render: Gives what a camera sees.

    Raises:
        OutputError: the film cannot be written.
    """
    width, height = (side - side % 2 for side in view.size)  # as encoders want it
    device = view.world_to_camera.device
    with atomic_path(file) as temporary:
        film = temporary.with_suffix(".mp4")
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(film), code, FRAMES_PER_SECOND, (width, height))
        if not writer.isOpened():
            raise OutputError(f"cannot write the film {file}: OpenCV found no encoder for it")
        for pose in path:
            world_to_camera = torch.from_numpy(invert_pose(pose)).float().to(device)
            colour = render(replace(view, world_to_camera=world_to_camera)).colour
            picture = (colour.clamp(0, 1) * 255).round().byte().cpu().numpy()
            writer.write(cv2.cvtColor(picture[:height, :width], cv2.COLOR_RGB2BGR))
        writer.release()
        film.replace(temporary)
