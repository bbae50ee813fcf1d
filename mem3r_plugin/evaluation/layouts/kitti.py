"""KITTI odometry: `sequences/00` with `image_2/`, `calib.txt` and `times.txt`; `poses/00.txt`.

Geiger et al., "Are we ready for autonomous driving? The KITTI vision benchmark suite", CVPR 2012. The
poses are those of camera 0 and are brought to the camera of the pictures. There is no depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.layouts.files import numbers, picture_size, pictures
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import pose_matrix

_CAMERAS = (2, 3, 0, 1)
"""Colour before grey, left before right."""


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's files."""
    return (directory / "calib.txt").is_file() and (directory / "times.txt").is_file()


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`.

    Raises:
        SourceError: a file is missing or damaged, or pictures and poses differ in number.
    """
    found = [camera for camera in _CAMERAS if (directory / f"image_{camera}").is_dir()]
    if not found:
        raise SourceError(f"{directory} has no folder image_0 to image_3")
    images = pictures(directory / f"image_{found[0]}")
    projection = _projection(directory / "calib.txt", found[0])
    matrix = projection[:, :3]
    # P = K [I | t]: the camera's own centre, seen from camera 0, is -t.
    centre = -np.linalg.solve(matrix, projection[:, 3])
    name = directory.resolve().name
    rows = numbers(directory.resolve().parents[1] / "poses" / f"{name}.txt", columns=12)
    first_camera = rows.reshape(-1, 3, 4)
    poses = pose_matrix(first_camera[..., :3], first_camera[..., 3])
    poses = poses @ pose_matrix(np.eye(3), centre)
    times = numbers(directory / "times.txt", columns=1)[:, 0]
    if not len(images) == len(poses) == len(times):
        raise SourceError(
            f"{directory} has {len(images)} pictures, {len(poses)} poses and {len(times)} times"
        )
    size = picture_size(images[0])
    camera = Intrinsics(matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5, *size)
    return PosedSequence(directory, images, times, poses, camera)


def _projection(file: Path, camera: int) -> NDArray[np.float64]:
    """The rectified projection matrix (3, 4) of a camera."""
    try:
        entries = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        return np.array(entries[f"P{camera}"].split(), np.float64).reshape(3, 4)
    except (OSError, KeyError, ValueError) as error:
        raise SourceError(f"{file} has no usable line P{camera}: {error!r}") from error
