"""Paths of cameras for tests of geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry.pose import pose_matrix, rotation_from_quaternion


def random_poses(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Camera-to-world poses (count, 4, 4): each somewhere near the one before, facing anywhere nearby."""
    rng = np.random.default_rng(seed)
    turn = np.concatenate([np.ones((count, 1)), 0.2 * rng.normal(size=(count, 3))], axis=1)
    return pose_matrix(rotation_from_quaternion(turn), np.cumsum(rng.normal(size=(count, 3)), 0))
