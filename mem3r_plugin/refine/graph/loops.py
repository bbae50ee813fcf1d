"""Which matches the refined poses bear out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose
from mem3r_plugin.refine.graph.edges import MatchedPair
from mem3r_plugin.refine.graph.pose_graph import cross_matrices, times

_MAX_ERROR = 4.0  # pixels from the epipolar line, in the median over a pair's matches


def explained_pairs(
    camera: Intrinsics, camera_to_world: Mapping[int, FloatArray], pairs: Sequence[MatchedPair]
) -> NDArray[np.bool_]:
    """Which pairs have matches that lie on each other's epipolar lines, (P,).

    Args:
        camera: Of all frames.
        camera_to_world: Poses (4, 4) by frame; a pair of which one frame is missing is not explained.
        pairs: Verified matches.
    """
    return np.array(
        [
            pair.first in camera_to_world
            and pair.second in camera_to_world
            and bool(np.median(epipolar_distance(camera, camera_to_world, pair)) < _MAX_ERROR)
            for pair in pairs
        ],
        bool,
    )


def epipolar_distance(
    camera: Intrinsics, camera_to_world: Mapping[int, FloatArray], pair: MatchedPair
) -> FloatArray:
    """Distances (M,) in pixels of the second frame's matches from the lines of the first's."""
    first_from_second = relative_pose(camera_to_world[pair.first], camera_to_world[pair.second])
    rays, other = (
        camera.unproject(pixels, np.ones(len(pixels)))
        for pixels in (pair.first_pixels, pair.second_pixels)
    )
    turned = rays @ first_from_second[:3, :3]
    baseline = first_from_second[:3, :3].T @ first_from_second[:3, 3]
    lines = times(cross_matrices(np.broadcast_to(baseline, turned.shape)), turned)
    slope = np.hypot(lines[:, 0] / camera.fx, lines[:, 1] / camera.fy)
    return np.asarray(np.abs((lines * other).sum(axis=1)) / np.maximum(slope, 1e-12))
