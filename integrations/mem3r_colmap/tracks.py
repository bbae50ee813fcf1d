"""Which picture sees which point, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.exports import PointCloud
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.scan import Scan


@dataclass(frozen=True)
class Observations:
    """M sightings, ordered by frame."""

    points: NDArray[np.int64]
    """Row of the point in the cloud, shape (M,)."""
    frames: NDArray[np.int64]
    """Index of the frame, shape (M,)."""
    pixels: NDArray[np.float64]
    """Position in original pixels, shape (M, 2)."""

    def __len__(self) -> int:
        return len(self.points)

    def of_long_tracks(self, min_length: int) -> Observations:
        """Those of points that are seen in at least `min_length` frames."""
        keep = (np.bincount(self.points) >= min_length)[self.points]
        return Observations(self.points[keep], self.frames[keep], self.pixels[keep])


def observe(
    scan: Scan, cloud: PointCloud, depth_tolerance: float, max_per_frame: int
) -> Observations:
    """Look for every point of the cloud in every frame of the scan.

    A frame sees a point where the point projects into it and the frame's own depth there is confident
    and differs by no more than `depth_tolerance` times the point's depth; anything nearer hides it.

    A frame that sees more than `max_per_frame` points keeps the first of them. As this favours the
    same points in all frames, tracks stay long.
    """
    points, pixels = zip(
        *(_seen(scan, index, cloud, depth_tolerance, max_per_frame) for index in range(len(scan))),
        strict=True,
    )
    frames = np.repeat(np.arange(len(scan)), [len(rows) for rows in points])
    return Observations(np.concatenate(points), frames, np.concatenate(pixels))


def _seen(
    scan: Scan, index: int, cloud: PointCloud, depth_tolerance: float, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of the points that one frame sees, at most `limit`, and their pixels there."""
    world_to_camera = invert_pose(scan.frames[index].camera_to_world)
    in_camera = transform_points(world_to_camera, cloud.positions)
    rows = np.flatnonzero(in_camera[:, 2] > 0)
    camera, network_camera = scan.frame_camera(index), scan.frame_network_camera(index)
    pixels = camera.project(in_camera[rows])
    network_pixels = scan.transform.pixels(pixels)
    inside = camera.contains(pixels) & network_camera.contains(network_pixels)
    rows, pixels = rows[inside], pixels[inside]
    column, line = np.floor(network_pixels[inside]).astype(np.int64).T
    depth = scan.depth(index)[line, column]
    confidence = scan.confidence(index)[line, column]
    z = in_camera[rows, 2]
    agrees = (np.abs(depth - z) <= depth_tolerance * z) & (confidence >= cloud.min_confidence)
    return rows[agrees][:limit], pixels[agrees][:limit]
