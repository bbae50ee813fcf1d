"""Which other views to match a view with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, vector_angle

_SPREAD = 0.6
"""Standard deviation of the logarithm of a good angle."""
_POINTS = 200
"""As many points tell overlap and angle well enough."""


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
    points = points[:: max(1, len(points) // _POINTS)]
    poses = camera_to_world[np.asarray(candidates, np.int64)]
    inverse = invert_pose(poses)
    seen = points @ inverse[:, :3, :3].swapaxes(1, 2) + inverse[:, None, :3, 3]
    seen[seen[..., 2] <= 0] = np.nan
    overlap = camera.contains(camera.project(seen)).mean(axis=1)
    to_view, to_other = camera_to_world[index, :3, 3] - points, poses[:, None, :3, 3] - points
    median = np.degrees(np.median(vector_angle(to_view, to_other), axis=1))
    scores = overlap * np.exp(-0.5 * (np.log(median.clip(1e-3) / angle) / _SPREAD) ** 2)
    ranked = np.argsort(-scores, kind="stable")[:count].tolist()
    return [candidates[rank] for rank in ranked if scores[rank] > 1e-3]
