"""Which loops the refined poses bear out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose
from mem3r_plugin.refine.edges import MatchedPair
from mem3r_plugin.refine.pose_graph import cross_matrices, times

_MAX_ERROR = 4.0  # pixels from the epipolar line, in the median over a pair's matches


def contradicted_loops(
    camera: Intrinsics, camera_to_world: FloatArray, loops: Iterable[MatchedPair]
) -> int:
    """How many loops have matches that do not lie on each other's epipolar lines.

    Args:
        camera: Of all frames.
        camera_to_world: Refined poses of all frames, (N, 4, 4).
        loops: Verified matches of frames that are said to show the same place.
    """
    return sum(
        float(np.median(epipolar_distance(camera, camera_to_world, pair))) > _MAX_ERROR
        for pair in loops
    )


def epipolar_distance(
    camera: Intrinsics, camera_to_world: FloatArray, pair: MatchedPair
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
