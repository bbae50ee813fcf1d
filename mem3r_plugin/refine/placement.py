"""Every frame placed around the largest piece of the map, by what evidence there is.

The pose graph holds the largest piece fixed. The others, and every frame in no piece, are bodies of
their own; edges between them come from frames that two pieces share, from verified matches lifted by
the network's depth, and, from each frame to the next, from the network's own motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix, transform_points
from mem3r_plugin.refine.graph.edges import DepthReader, MatchedPair, measure_pair
from mem3r_plugin.refine.graph.network_motion import MeasuredMotion, NetworkMotion
from mem3r_plugin.refine.graph.pose_graph import (
    OUTLIER,
    STILL,
    Edge,
    compose,
    invert,
    solve_pose_graph,
    whitening,
)
from mem3r_plugin.refine.mapping.structure import SparseMap
from mem3r_plugin.refine.posed import Support
from mem3r_plugin.refine.track_frames import TrackedFrame

_NEARBY = 8  # frames; matches over more than that may be false and count as loops
_SHARED_ERROR = 2.0  # pixels by which the pose of one frame in two pieces may differ
_UNIT_ERROR = 0.05  # relative, of a frame's unit of depth


@dataclass(frozen=True, eq=False)
class Placement:
    """All frames in one world, that of the largest piece."""

    camera_to_world: FloatArray
    """Poses, (N, 4, 4)."""
    support: tuple[Support, ...]
    """What every pose rests on."""
    points: FloatArray
    """Points of all pieces, (P, 3)."""
    sightings: dict[int, tuple[NDArray[np.int64], FloatArray]]
    """By frame the rows of the points it sees, (M,), and its pixels there, (M, 2)."""
    network: NetworkMotion
    """How good the network's motions were."""
    guessed: tuple[int, ...]
    """Pieces, by rank, that only the network's motions hold."""


@dataclass(frozen=True, eq=False)
class _Body:
    """Frames that keep their places: a piece of the map with what was tracked to it, or one frame."""

    frames: dict[
        int, Similarity
    ]  # to the body; scale is the body's length of the frame's depth unit


def place_frames(
    maps: Sequence[SparseMap],
    tracked: Sequence[dict[int, TrackedFrame]],
    predicted: FloatArray,
    pairs: Sequence[MatchedPair],
    read_depth: DepthReader,
) -> Placement:
    """Poses of all frames.

    Args:
        maps: Pieces of the map, at least one, the largest first.
        tracked: For every piece, frames that its points were followed into.
        predicted: The network's poses of all frames, (N, 4, 4), any scale.
        pairs: Verified matches of keyframes.
        read_depth: Gives the network's depth.
    """
    bodies = [_piece(piece, there, read_depth) for piece, there in zip(maps, tracked, strict=True)]
    network = NetworkMotion.judged(
        predicted, [motion for body in bodies for motion in _steps(body)]
    )
    placed = {frame for body in bodies for frame in body.frames}
    bodies += [_Body({frame: STILL}) for frame in range(len(predicted)) if frame not in placed]
    homes = {
        frame: rank for rank, body in reversed(list(enumerate(bodies))) for frame in body.frames
    }
    firm = _shared_edges(bodies, homes, maps[0].camera)
    firm += _matched_edges(bodies, homes, pairs, maps[0].camera, read_depth)
    loose = _network_edges(bodies, homes, network)
    solved = solve_pose_graph(len(bodies), firm + loose)
    agree = solved.residuals[: len(firm)] <= OUTLIER
    held = _held(len(bodies), [edge for edge, good in zip(firm, agree, strict=True) if good])
    frames = [
        compose(solved.bodies[homes[frame]], bodies[homes[frame]].frames[frame])
        for frame in range(len(predicted))
    ]
    moves = solved.bodies[: len(maps)]
    return Placement(
        camera_to_world=np.stack([pose_matrix(at.rotation, at.translation) for at in frames]),
        support=_support(maps, homes, held),
        points=np.concatenate(
            [move.points(piece.points) for move, piece in zip(moves, maps, strict=True)]
        ),
        sightings=_sightings(maps, tracked, homes),
        network=network,
        guessed=tuple(rank for rank in range(len(maps)) if rank not in held),
    )


# -- bodies --------------------------------------------------------------------------------------


def _piece(piece: SparseMap, tracked: dict[int, TrackedFrame], read_depth: DepthReader) -> _Body:
    units = _units(piece, read_depth)
    poses = {**{frame: there.pose for frame, there in tracked.items()}, **piece.poses}
    unit = dict(zip(poses, np.interp(list(poses), *units), strict=True))
    return _Body(
        {
            frame: Similarity(float(unit[frame]), pose[:3, :3], pose[:3, 3])
            for frame, pose in poses.items()
        }
    )


def _units(piece: SparseMap, read_depth: DepthReader) -> tuple[list[int], list[float]]:
    """Frames, rising, and the length of their unit of depth in the piece."""
    units = {}
    for frame, (rows, pixels) in sorted(piece.sightings.items()):
        known = read_depth(frame, pixels)
        depth = transform_points(invert_pose(piece.poses[frame]), piece.points[rows])[:, 2]
        seen = (known > 0) & (depth > 0)
        if seen.any():
            units[frame] = float(np.median(depth[seen] / known[seen]))
    return (list(units), list(units.values())) if units else ([0], [1.0])


def _steps(body: _Body) -> list[MeasuredMotion]:
    """Motions from each frame of a body to its next one."""
    order = sorted(body.frames)
    return [
        (first, second, compose(invert(body.frames[first]), body.frames[second]))
        for first, second in pairwise(order)
    ]


# -- edges ---------------------------------------------------------------------------------------


def _shared_edges(bodies: list[_Body], homes: dict[int, int], camera: Intrinsics) -> list[Edge]:
    """A frame that two pieces share is at the same place in both."""
    angle = _SHARED_ERROR / camera.fx
    root = whitening(np.diag(np.full(6, angle**2)), _UNIT_ERROR)
    return [
        Edge(homes[frame], rank, STILL, root, False, bodies[homes[frame]].frames[frame], at)
        for rank, body in enumerate(bodies)
        for frame, at in body.frames.items()
        if homes[frame] != rank
    ]


def _matched_edges(
    bodies: list[_Body],
    homes: dict[int, int],
    pairs: Sequence[MatchedPair],
    camera: Intrinsics,
    read_depth: DepthReader,
) -> list[Edge]:
    edges = []
    for pair in pairs:
        first, second = homes[pair.first], homes[pair.second]
        if first == second:
            continue
        motion = measure_pair(camera, pair, read_depth)
        if motion is not None:
            ours, theirs = bodies[first].frames[pair.first], bodies[second].frames[pair.second]
            loop = pair.second - pair.first > _NEARBY
            edges.append(
                Edge(first, second, motion.similarity, motion.whitening, loop, ours, theirs)
            )
    return edges


def _network_edges(
    bodies: list[_Body], homes: dict[int, int], network: NetworkMotion
) -> list[Edge]:
    edges = []
    for frame in range(len(homes) - 1):
        first, second = homes[frame], homes[frame + 1]
        if first != second:
            motion = network.between(frame, frame + 1)
            ours, theirs = bodies[first].frames[frame], bodies[second].frames[frame + 1]
            edges.append(
                Edge(first, second, motion.similarity, motion.whitening, False, ours, theirs)
            )
    return edges


# -- what came out -------------------------------------------------------------------------------


def _held(count: int, edges: Sequence[Edge]) -> set[int]:
    """Bodies that a chain of edges ties to the first one."""
    held, before = {0}, 0
    while len(held) > before:
        before = len(held)
        for edge in edges:
            if held & {edge.first, edge.second}:
                held |= {edge.first, edge.second}
    return held


def _support(
    maps: Sequence[SparseMap], homes: dict[int, int], held: set[int]
) -> tuple[Support, ...]:
    mapped = {frame for piece in maps for frame in piece.poses}
    return tuple(
        "mapped"
        if frame in mapped
        else "tracked"
        if homes[frame] < len(maps) or homes[frame] in held
        else "carried"
        for frame in range(len(homes))
    )


def _sightings(
    maps: Sequence[SparseMap],
    tracked: Sequence[dict[int, TrackedFrame]],
    homes: dict[int, int],
) -> dict[int, tuple[NDArray[np.int64], FloatArray]]:
    sightings, offset = {}, 0
    for rank, (piece, there) in enumerate(zip(maps, tracked, strict=True)):
        followed = {frame: (found.rows, found.pixels) for frame, found in there.items()}
        for frame, (rows, pixels) in {**followed, **piece.sightings}.items():
            if homes[frame] == rank:
                sightings[frame] = (rows + offset, pixels)
        offset += len(piece.points)
    return sightings
