"""Errors of a camera trajectory against the true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose, rotation_angle


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors after a Sim(3) alignment of the camera centres, lengths in the truth's unit."""

    ate_rmse: float
    """Absolute trajectory error: root mean square distance of the camera centres."""
    rpe_translation: float
    """Relative pose error from frame to frame: root mean square of its translation."""
    rpe_rotation: float
    """Relative pose error from frame to frame: root mean square of its angle, in degrees."""
    path_length: float
    """Length of the true path."""
    scale: float
    """What estimated lengths were multiplied by."""
    frames: int
    """Number of compared poses."""


def trajectory_errors(estimated: FloatArray, true: FloatArray) -> TrajectoryErrors:
    """Compare `camera_to_world` poses of the same frames in order, both of shape (N, 4, 4), N >= 2.

    ATE and RPE as defined by Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems"
    (2012), with the alignment's scale applied to both. An estimate that never moves keeps its scale:
    its ATE is the spread of the true path about its mean.

    Raises:
        ValueError: the shapes differ or there are fewer than two poses.
    """
    if estimated.shape != true.shape or len(true) < 2:
        raise ValueError(f"cannot compare {len(estimated)} estimated with {len(true)} true poses")
    similarity = umeyama(estimated[:, :3, 3], true[:, :3, 3])
    aligned = similarity.poses(estimated)
    error = relative_pose(
        relative_pose(true[:-1], true[1:]), relative_pose(aligned[:-1], aligned[1:])
    )
    angles = np.degrees(rotation_angle(error[:, :3, :3]))
    return TrajectoryErrors(
        ate_rmse=_rms(aligned[:, :3, 3] - true[:, :3, 3]),
        rpe_translation=_rms(error[:, :3, 3]),
        rpe_rotation=float(np.sqrt(np.mean(angles**2))),
        path_length=float(np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum()),
        scale=similarity.scale,
        frames=len(true),
    )


def _rms(vectors: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))
