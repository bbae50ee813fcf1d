"""Which other views to match a view with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points

_SPREAD = 0.6
"""Standard deviation of the logarithm of a good angle."""


def choose_neighbours(
    points: FloatArray,
    camera: Intrinsics,
    camera_to_world: FloatArray,
    index: int,
    candidates: Sequence[int],
    count: int,
    angle: float,
) -> list[int]:
    """The views that see the most of what a view sees, at an angle good for triangulation.

    The score is the share of the points in the other picture times a bell curve over the logarithm
    of their median triangulation angle, as in MVSNet's view selection (Yao et al., ECCV 2018).

    Args:
        points: World points (n, 3) that the view sees, n > 0.
        camera: The camera of all views.
        camera_to_world: Poses (N, 4, 4).
        index: The view.
        candidates: Views to choose from.
        count: How many at most.
        angle: The best angle in degrees.

    Returns:
        Views, the best first; those that see nothing of it are left out.
    """
    to_view = camera_to_world[index, :3, 3] - points
    scores = []
    for other in candidates:
        seen = transform_points(invert_pose(camera_to_world[other]), points)
        seen[seen[:, 2] <= 0] = np.nan
        overlap = float(np.mean(camera.contains(camera.project(seen))))
        median = np.degrees(np.median(_angles(to_view, camera_to_world[other, :3, 3] - points)))
        bell = np.exp(-0.5 * (np.log(max(median, 1e-3) / angle) / _SPREAD) ** 2)
        scores.append(overlap * float(bell))
    ranked = np.argsort(-np.array(scores), kind="stable")[:count]
    return [candidates[rank] for rank in ranked if scores[rank] > 1e-3]


def _angles(first: FloatArray, second: FloatArray) -> FloatArray:
    """Angles (n,) between vectors (n, 3), in radians."""
    cross = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.arctan2(cross, (first * second).sum(axis=-1))
