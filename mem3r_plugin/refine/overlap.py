"""Which pictures overlap according to the predicted poses and depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.scan import Scan

_GRID = 8  # samples along each side of a picture


def predicted_overlap(scan: Scan, indices: list[int]) -> NDArray[np.float64]:
    """Share of each picture that the others see as well, by what the scan says, shape (n, n).

    Symmetric: the smaller of the two shares. Hidden surfaces are not told apart. It proposes pairs to
    match and decides nothing, so it may be as wrong as the network is.
    """
    camera = scan.network_camera
    rows = np.linspace(0, camera.height - 1, _GRID).round().astype(np.int64)
    columns = np.linspace(0, camera.width - 1, _GRID).round().astype(np.int64)
    grid = np.ix_(rows, columns)
    centres = camera.pixel_centres()[grid]
    seen = np.zeros((len(indices), len(indices)))
    world_to_camera = invert_pose(np.stack([scan.frames[i].camera_to_world for i in indices]))
    for rank, index in enumerate(indices):
        depth = scan.depth(index)[grid]
        points = camera.unproject(centres, depth)[depth > 0]
        if not len(points):
            continue
        world = transform_points(scan.frames[index].camera_to_world, points)
        for other, pose in enumerate(world_to_camera):
            inside = transform_points(pose, world)
            inside = inside[inside[:, 2] > 0]
            seen[rank, other] = camera.contains(camera.project(inside)).sum() / len(points)
    return np.minimum(seen, seen.T)
