"""The network's depth at refined poses, brought frame by frame to the points of the map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.refine.depth.alignment import align_depth
from mem3r_plugin.refine.estimates import Estimates, own_estimates
from mem3r_plugin.refine.posed import PosedFrames
from mem3r_plugin.scan import Scan


def aligned_estimates(scan: Scan, posed: PosedFrames) -> Estimates:
    """Every frame at its refined pose; its depth keeps the network's shape and confidence.

    Args:
        scan: Gives the network's depth.
        posed: Poses, camera and points, at least one sighting of these.
    """
    camera = scan.transform.intrinsics(posed.camera)
    supported = np.unique(posed.frames)
    for index, (estimate, _) in enumerate(own_estimates(scan)):
        pose = posed.camera_to_world[index]
        nearest = int(supported[np.abs(supported - index).argmin()])
        seen = transform_points(invert_pose(pose), _points_of(posed, nearest))
        seen = seen[seen[:, 2] > 0]
        pixels = camera.project(seen)
        inside = camera.contains(pixels)
        correction = align_depth(estimate.depth, camera, pixels[inside], seen[inside, 2])
        depth = estimate.depth if correction is None else correction.apply(estimate.depth, camera)
        moved = replace(
            estimate, camera_to_world=pose, depth=depth, intrinsics=camera, focal=camera.fx
        )
        yield moved, None if correction is None else correction.residual


def _points_of(posed: PosedFrames, index: int) -> FloatArray:
    """World points (n, 3) that a frame sees."""
    start, end = np.searchsorted(posed.frames, [index, index + 1])
    return posed.points[posed.rows[start:end]]
