"""Trajectories in the text format of the TUM RGB-D benchmark.

One pose a line, `timestamp tx ty tz qx qy qz qw`, camera to world; lines that start with `#` are
comments. https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.exports.files import write_file
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.geometry.pose import (
    pose_matrix,
    quaternion_from_rotation,
    rotation_from_quaternion,
)
from mem3r_plugin.scan import Scan

_XYZW = [1, 2, 3, 0]
"""Order of TUM's quaternion elements within ours."""


def export_tum(scan: Scan, file: Path) -> None:
    """Write the trajectory of a scan; world and unit of length are the scan's.

    What is known of the unit is told in a comment.

    Raises:
        OutputError: the file cannot be written.
    """
    timestamps = np.array([frame.timestamp for frame in scan.frames])
    poses = [frame.camera_to_world for frame in scan.frames]
    write_tum(file, timestamps, np.array(poses).reshape(-1, 4, 4), describe_scale(scan))


def write_tum(
    file: Path,
    timestamps: NDArray[np.float64],
    camera_to_world: NDArray[np.float64],
    comment: str | None = None,
) -> None:
    """Write timestamps (N,) and `camera_to_world` poses (N, 4, 4) as a trajectory file.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    if comment is not None:
        lines.append(f"# {comment}")
    for timestamp, pose in zip(timestamps, camera_to_world, strict=True):
        values = [*pose[:3, 3], *quaternion_from_rotation(pose[:3, :3])[_XYZW]]
        lines.append(f"{timestamp:.6f} " + " ".join(f"{value + 0.0:.12g}" for value in values))
    write_file(file, ("\n".join(lines) + "\n").encode())


def read_tum(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Timestamps (N,) and `camera_to_world` poses (N, 4, 4) of a trajectory file.

    Raises:
        SourceError: the file is missing or a line does not hold a timestamp and a pose.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file gets our own message
            rows = np.loadtxt(file, dtype=np.float64, ndmin=2)
    except OSError as error:
        raise SourceError(f"cannot read the trajectory {file}: {error}") from error
    except ValueError as error:
        raise SourceError(f"{file} is not a TUM trajectory: {error}") from error
    if rows.shape[1:] != (8,) or not np.linalg.norm(rows[:, 4:], axis=1).all():
        raise SourceError(
            f"{file} is not a TUM trajectory: a line is 'timestamp tx ty tz qx qy qz qw'"
        )
    rotations = rotation_from_quaternion(rows[:, [7, 4, 5, 6]])
    return rows[:, 0], pose_matrix(rotations, rows[:, 1:4])
