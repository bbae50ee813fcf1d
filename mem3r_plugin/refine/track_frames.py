"""Frames between the mapped ones, posed by the map points that are followed into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.refine.graph.edges import pinhole_camera
from mem3r_plugin.refine.keyframes.choice import Grey, reduced
from mem3r_plugin.refine.keyframes.tracking import follow
from mem3r_plugin.refine.mapping.structure import SparseMap

_LONG_SIDE = 1024  # points are followed in pictures of at most this size
_REACH = 40  # frames over which points are followed at most
_MIN_POINTS = 15
_MIN_INLIERS = 12
_MIN_INLIER_RATIO = 0.4
_MAX_ERROR = 4.0  # pixels

Matches = tuple[NDArray[np.int64], FloatArray]
"""Rows of points of a map (M,), and pixels that show them (M, 2)."""


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame posed by map points."""

    pose: FloatArray
    """`camera_to_world`, (4, 4)."""
    rows: NDArray[np.int64]
    """The points that agree with it, (M,)."""
    pixels: FloatArray
    """Where they were followed to, pixels of the picture, (M, 2)."""


def track_frames(
    sparse: SparseMap,
    count: int,
    read_grey: Callable[[int], Grey],
    advance: Callable[[int], None] = lambda _: None,
) -> dict[int, TrackedFrame]:
    """Poses of frames between the mapped ones, from map points followed into them.

    Points are followed from the mapped frame before and from the one after; the pose is found by
    RANSAC over both and refined (PnP). Frames where too few points agree are left out.

    Args:
        sparse: The map.
        count: Number of frames of the scan.
        read_grey: Gives the grey picture (H, W) of a frame.
        advance: Is told the frame up to which all are done.

    Returns:
        By frame index.
    """
    pinhole = pinhole_camera(sparse.camera)
    frames = {}
    for gap in _gaps(sorted(sparse.poses), count):
        matches: dict[int, list[Matches]] = {}
        greys = {index: reduced(read_grey(index), _LONG_SIDE) for index in gap.frames}
        for way in gap.ways:
            for index, found in _follow_points(sparse, way, greys):
                matches.setdefault(index, []).append(found)
        for index, found_there in sorted(matches.items()):
            frame = _resect(sparse, pinhole, found_there)
            if frame is not None:
                frames[index] = frame
        advance(gap.frames[-1])
    return frames


class _Gap:
    """The frames from one mapped frame to the next, or from the last one on."""

    def __init__(self, before: int | None, after: int | None, count: int) -> None:
        start = 0 if before is None else before
        stop = count - 1 if after is None else after
        self.ways: list[range] = []
        if before is not None:
            self.ways.append(range(before, min(stop, before + _REACH) + 1))
        if after is not None:
            self.ways.append(range(after, max(start, after - _REACH) - 1, -1))
        self.frames = sorted({index for way in self.ways for index in way})


def _gaps(mapped: list[int], count: int) -> Iterator[_Gap]:
    for before, after in zip([None, *mapped], [*mapped, None], strict=True):
        first = -1 if before is None else before
        last = count if after is None else after
        if last - first > 1:
            yield _Gap(before, after, count)


def _follow_points(
    sparse: SparseMap, way: range, greys: dict[int, Grey]
) -> Iterator[tuple[int, Matches]]:
    rows, pixels = sparse.sightings[way[0]]
    factor = greys[way[0]].shape[1] / sparse.camera.width
    points = (pixels * factor - 0.5).astype(np.float32)
    for previous, index in pairwise(way):
        if index in sparse.poses:
            return
        moved, seen = follow(greys[previous], greys[index], points)
        rows, points = rows[seen], moved[seen]
        if len(rows) < _MIN_POINTS:
            return
        yield index, (rows, (points.astype(np.float64) + 0.5) / factor)


def _resect(
    sparse: SparseMap, pinhole: pycolmap.Camera, matches: list[Matches]
) -> TrackedFrame | None:
    rows = np.concatenate([found[0] for found in matches])
    pixels = np.concatenate([found[1] for found in matches])
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error = _MAX_ERROR
    estimation.ransac.random_seed = 0
    answer = pycolmap.estimate_and_refine_absolute_pose(
        pixels, sparse.points[rows], pinhole, estimation
    )
    if answer is None or answer["num_inliers"] < max(_MIN_INLIERS, _MIN_INLIER_RATIO * len(rows)):
        return None
    inverse = answer["cam_from_world"].inverse()
    pose = pose_matrix(inverse.rotation.matrix(), inverse.translation)
    return TrackedFrame(pose, *_one_each(rows, pixels, answer["inlier_mask"]))


def _one_each(
    rows: NDArray[np.int64], pixels: FloatArray, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], FloatArray]:
    """Each point once, though it may have been followed from both sides."""
    kept, first = np.unique(rows[inside], return_index=True)
    return kept, pixels[inside][first]
