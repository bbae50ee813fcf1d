"""Which picture sees which point, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.exports import PointCloud
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.progress import ProgressCallback, no_progress
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
        return self.where((np.bincount(self.points) >= min_length)[self.points])

    def where(self, keep: NDArray[np.bool_]) -> Observations:
        """Some of them, `keep` of shape (M,)."""
        return Observations(self.points[keep], self.frames[keep], self.pixels[keep])


@dataclass(frozen=True)
class ObservedPoints:
    """N points with their observations."""

    positions: NDArray[np.float64]
    """World coordinates, shape (N, 3)."""
    frames: NDArray[np.integer]
    """A frame that shows the colour of each point, shape (N,); -1 where none does."""
    pixels: NDArray[np.float64]
    """Where it shows it, original pixels, shape (N, 2)."""
    observations: Observations
    """Sightings, by row of these points."""

    def and_then(self, other: ObservedPoints) -> ObservedPoints:
        """These points and then others, observations again ordered by frame."""
        mine, theirs = self.observations, other.observations
        frames = np.concatenate([mine.frames, theirs.frames])
        order = np.argsort(frames, kind="stable")
        points = np.concatenate([mine.points, theirs.points + len(self.positions)])
        pixels = np.concatenate([mine.pixels, theirs.pixels])
        return ObservedPoints(
            np.concatenate([self.positions, other.positions]),
            np.concatenate([self.frames, other.frames]),
            np.concatenate([self.pixels, other.pixels]),
            Observations(points[order], frames[order], pixels[order]),
        )


def observe(
    scan: Scan,
    cloud: PointCloud,
    depth_tolerance: float,
    max_per_frame: int,
    progress: ProgressCallback = no_progress,
) -> Observations:
    """Look for every point of the cloud in every frame of the scan.

    A frame sees a point where the point projects into it and the frame's own depth there is confident
    and differs by no more than `depth_tolerance` times the point's depth; anything nearer hides it.

    A frame that sees more than `max_per_frame` points keeps the first of them. As this favours the
    same points in all frames, tracks stay long. A frame whose confident depth shows none is asked
    again for its doubtful depth, as some readers cannot do with a picture that sees nothing.
    """
    points, pixels = [], []
    for index in range(len(scan)):
        seen = _seen(scan, index, cloud, depth_tolerance, cloud.min_confidence)
        if not len(seen[0]):
            seen = _seen(scan, index, cloud, depth_tolerance, 1.0)
        points.append(seen[0][:max_per_frame])
        pixels.append(seen[1][:max_per_frame])
        progress("looking for the points in all pictures", index + 1, len(scan))
    frames = np.repeat(np.arange(len(scan)), [len(rows) for rows in points])
    return Observations(np.concatenate(points), frames, np.concatenate(pixels))


def _seen(
    scan: Scan, index: int, cloud: PointCloud, depth_tolerance: float, min_confidence: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of the points that one frame sees and their pixels there."""
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
    agrees = (np.abs(depth - z) <= depth_tolerance * z) & (confidence >= min_confidence)
    return rows[agrees], pixels[agrees]
