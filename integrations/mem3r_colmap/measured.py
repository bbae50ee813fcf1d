"""The points that a refinement triangulated, with the features that it found in the pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem3r_colmap.tracks import Observations, ObservedPoints
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.scan import Scan, Structure


def measured_points(
    scan: Scan, structure: Structure, max_error: float, min_track_length: int
) -> ObservedPoints:
    """The points of a structure and those of its sightings that a model can be built of.

    Args:
        scan: The scan.
        structure: Its points and sightings.
        max_error: Sightings that lie farther from their projected point, in original pixels, are left
            out, as COLMAP's own mapper does.
        min_track_length: Points with fewer sightings have none.
    """
    found = Observations(structure.rows, structure.frames, structure.pixels)
    errors = reprojection_errors(scan, structure.points, found)
    keep = _best_of_frame(found, errors) & (errors <= max_error)
    found = found.where(keep).of_long_tracks(min_track_length)
    seen, first = np.unique(found.points, return_index=True)
    frames, pixels = np.full(len(structure.points), -1), np.zeros((len(structure.points), 2))
    frames[seen], pixels[seen] = found.frames[first], found.pixels[first]
    return ObservedPoints(structure.points, frames, pixels, found)


def reprojection_errors(
    scan: Scan, points: NDArray[np.float64], found: Observations
) -> NDArray[np.float64]:
    """Distance in original pixels from every observation to its point's projection, shape (M,).

    Infinite where the point lies behind the camera.
    """
    errors = np.full(len(found), np.inf)
    bounds = np.searchsorted(found.frames, np.arange(len(scan) + 1))
    for index, frame in enumerate(scan.frames):
        mine = np.arange(bounds[index], bounds[index + 1])
        in_camera = transform_points(invert_pose(frame.camera_to_world), points[found.points[mine]])
        front = in_camera[:, 2] > 0
        seen = scan.frame_camera(index).project(in_camera[front])
        errors[mine[front]] = np.linalg.norm(seen - found.pixels[mine[front]], axis=1)
    return errors


def _best_of_frame(found: Observations, errors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether no better observation shows the same point in the same frame, shape (M,).

    A point followed into a frame from two sides has two.
    """
    order = np.lexsort((errors, found.points, found.frames))
    frames, points = found.frames[order], found.points[order]
    best = np.ones(len(order), bool)
    best[order[1:]] = (np.diff(frames) != 0) | (np.diff(points) != 0)
    return best
