"""Every other frame carried along, so that all frames of a scan have a pose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import (
    pose_matrix,
    quaternion_from_rotation,
    relative_pose,
    rotation_from_quaternion,
)
from mem3r_plugin.refine.keyframes import Grey, reduced
from mem3r_plugin.refine.mapping import SparseMap
from mem3r_plugin.refine.tracking import follow

_LONG_SIDE = 1024  # points are followed in pictures of at most this size
_REACH = 40  # frames over which points are followed at most
_MIN_POINTS = 15
_MIN_INLIERS = 12
_MIN_INLIER_RATIO = 0.4
_MAX_ERROR = 4.0  # pixels

Matches = tuple[NDArray[np.int64], FloatArray]
"""Rows of points of a map (M,), and pixels that show them (M, 2)."""


def track_frames(
    sparse: SparseMap, count: int, read_grey: Callable[[int], Grey]
) -> dict[int, FloatArray]:
    """Poses of frames between the mapped ones, from map points followed into them.

    Points are followed from the mapped frame before and from the one after; the pose is found by
    RANSAC over both and refined (PnP). Frames where too few points agree are left out.

    Args:
        sparse: The map.
        count: Number of frames of the scan.
        read_grey: Gives the grey picture (H, W) of a frame.

    Returns:
        `camera_to_world` (4, 4) by frame index.
    """
    camera = sparse.camera
    pinhole = pycolmap.Camera(
        model="PINHOLE",
        width=camera.width,
        height=camera.height,
        params=[camera.fx, camera.fy, camera.cx, camera.cy],
    )
    poses = {}
    for gap in _gaps(sorted(sparse.poses), count):
        matches: dict[int, list[Matches]] = {}
        greys = {index: reduced(read_grey(index), _LONG_SIDE) for index in gap.frames}
        for way in gap.ways:
            for index, found in _follow_points(sparse, way, greys):
                matches.setdefault(index, []).append(found)
        for index, found_there in sorted(matches.items()):
            pose = _resect(sparse, pinhole, found_there)
            if pose is not None:
                poses[index] = pose
    return poses


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
) -> FloatArray | None:
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
    return pose_matrix(inverse.rotation.matrix(), inverse.translation)


# -- frames without any map point ----------------------------------------------------------------


def carry_frames(known: dict[int, FloatArray], predicted: FloatArray) -> tuple[FloatArray, bool]:
    """Poses of all frames: the known ones as they are, the others carried along with them.

    An unknown frame moves from the known frame before it, and to the one after it, either as the
    network predicts or evenly. Which of the two is told by the known frames themselves, each
    predicted from its neighbours.

    Args:
        known: `camera_to_world` (4, 4) by frame index, at least one.
        predicted: The network's poses of all frames, shape (N, 4, 4), any scale.

    Returns:
        Poses (N, 4, 4), and whether the network's motion was used.
    """
    anchors = sorted(known)
    scale = _scale([known[i] for i in anchors], predicted[anchors])
    trust = _network_predicts_better(known, anchors, predicted, scale)
    poses = np.empty_like(predicted)
    for index in range(len(predicted)):
        if index in known:
            poses[index] = known[index]
            continue
        rank = int(np.searchsorted(anchors, index))
        near = anchors[max(0, rank - 1) : rank + 1] if rank < len(anchors) else anchors[-1:]
        near = near if rank else anchors[:1]
        poses[index] = _carried(index, near, known, predicted, scale if trust else None)
    return poses, trust


def _scale(known: list[FloatArray], predicted: FloatArray) -> float:
    """Length of a predicted unit in known units, from the steps between anchors."""
    steps = np.linalg.norm(np.diff(np.array(known)[:, :3, 3], axis=0), axis=1)
    said = np.linalg.norm(np.diff(predicted[:, :3, 3], axis=0), axis=1)
    return float(steps.sum() / said.sum()) if said.sum() > 0 else 0.0


def _network_predicts_better(
    known: dict[int, FloatArray], anchors: list[int], predicted: FloatArray, scale: float
) -> bool:
    if len(anchors) < 3:
        return True
    errors = np.array(
        [
            [
                np.linalg.norm(
                    _carried(index, [before, after], known, predicted, way)[:3, 3]
                    - known[index][:3, 3]
                )
                for way in (scale, None)
            ]
            for before, index, after in zip(anchors, anchors[1:], anchors[2:], strict=False)
        ]
    )
    network, even = np.median(errors, axis=0)
    return bool(network < even)


def _carried(
    index: int,
    near: list[int],
    known: dict[int, FloatArray],
    predicted: FloatArray,
    scale: float | None,
) -> FloatArray:
    """A frame's pose from one or two anchors; `scale` None moves evenly."""
    guesses = [
        known[anchor] if scale is None else _moved(known[anchor], predicted, anchor, index, scale)
        for anchor in near
    ]
    if len(guesses) == 1:
        return guesses[0]
    share = (index - near[0]) / (near[1] - near[0])
    return interpolate_pose(guesses[0], guesses[1], share)


def _moved(
    pose: FloatArray, predicted: FloatArray, start: int, end: int, scale: float
) -> FloatArray:
    motion = relative_pose(predicted[start], predicted[end])
    motion[:3, 3] *= scale
    return pose @ motion


def interpolate_pose(first: FloatArray, second: FloatArray, share: float) -> FloatArray:
    """The pose (4, 4) at `share` of the way: centres on a line, rotations on the shortest arc."""
    a, b = (quaternion_from_rotation(pose[:3, :3]) for pose in (first, second))
    cosine = float(a @ b)
    b, cosine = (b, cosine) if cosine >= 0 else (-b, -cosine)
    angle = np.arccos(min(1.0, cosine))
    if angle < 1e-6:
        blended = (1 - share) * a + share * b
    else:
        blended = np.sin((1 - share) * angle) * a + np.sin(share * angle) * b
    centre = (1 - share) * first[:3, 3] + share * second[:3, 3]
    return pose_matrix(rotation_from_quaternion(blended), centre)
