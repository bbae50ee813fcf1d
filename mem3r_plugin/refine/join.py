"""Pieces of a scan that matching could not hold together, brought into one frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose
from mem3r_plugin.refine.mapping import SparseMap


def join_maps(maps: list[SparseMap], predicted: FloatArray) -> SparseMap:
    """One map from several, in the frame and unit of the first.

    Piece by piece, the one nearest in time next, each is placed by its frame nearest to a placed one:
    by the very same frame where two pieces share it, else by the motion that the network predicts
    between the two. The network also gives each piece its scale, from the lengths of its paths.

    Args:
        maps: At least one.
        predicted: The network's poses of all frames, shape (N, 4, 4).
    """
    whole, *rest = maps
    while rest:
        piece = min(rest, key=lambda candidate: _junction(whole, candidate)[0])
        rest.remove(piece)
        whole = _united(whole, piece, predicted)
    return whole


def _junction(whole: SparseMap, piece: SparseMap) -> tuple[int, int, int]:
    """The shortest time from a frame of one to a frame of the other: gap, and the two frames."""
    return min((abs(i - j), i, j) for i in whole.poses for j in piece.poses)


def _united(whole: SparseMap, piece: SparseMap, predicted: FloatArray) -> SparseMap:
    _, frame, other = _junction(whole, piece)
    ours, theirs = _unit(whole, predicted), _unit(piece, predicted)
    scale = ours / theirs
    motion = relative_pose(predicted[frame], predicted[other])
    motion[:3, 3] *= ours
    target, source = whole.poses[frame] @ motion, piece.poses[other]
    rotation = target[:3, :3] @ source[:3, :3].T
    move = Similarity(scale, rotation, target[:3, 3] - scale * rotation @ source[:3, 3])
    offset = len(whole.points)
    moved = {
        index: (rows + offset, pixels)
        for index, (rows, pixels) in piece.sightings.items()
        if index not in whole.poses
    }
    poses = {
        index: move.poses(pose) for index, pose in piece.poses.items() if index not in whole.poses
    }
    return replace(
        whole,
        poses={**poses, **whole.poses},
        points=np.concatenate([whole.points, move.points(piece.points)]),
        sightings={**moved, **whole.sightings},
    )


def _unit(piece: SparseMap, predicted: FloatArray) -> float:
    """Length of a predicted unit in the piece: path lengths compared over its frames in order."""
    frames = sorted(piece.poses)
    walked = np.array([piece.poses[frame][:3, 3] for frame in frames])
    said = predicted[frames][:, :3, 3]
    length, predicted_length = (
        np.linalg.norm(np.diff(path, axis=0), axis=1).sum() for path in (walked, said)
    )
    return float(length / predicted_length) if length > 0 and predicted_length > 0 else 1.0
