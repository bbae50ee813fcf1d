"""Keyframes placed by a pose graph before anything is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.refine.graph.edges import DepthReader, MatchedPair, measure_pair
from mem3r_plugin.refine.graph.network_motion import NetworkMotion
from mem3r_plugin.refine.graph.pose_graph import OUTLIER, Edge, SolvedGraph, solve_pose_graph

_REACH = 2  # keyframes; matches over more may be false and count as loops


@dataclass(frozen=True, eq=False)
class KeyframeGraph:
    """Where the graph puts the keyframes."""

    camera_to_world: dict[int, FloatArray]
    """Poses (4, 4) by frame; world is the first keyframe, lengths in its unit of depth."""
    loops: int
    """Loop edges."""
    contradicted: frozenset[tuple[int, int]]
    """Frames of those that the solved graph contradicts."""


def place_keyframes(
    camera: Intrinsics,
    keyframes: Sequence[int],
    pairs: Sequence[MatchedPair],
    predicted: FloatArray,
    read_depth: DepthReader,
    with_loops: bool = True,
) -> KeyframeGraph:
    """Solve the graph of all keyframes.

    Edges are the motions that matches and the network's depth give, and from each keyframe to the
    next the network's own motion, with the errors it shows beside them. A camera or depth that is
    systematically wrong makes the measured motions contradict each other by more than they should;
    all of them are then trusted less by that much, so that true loops are not taken for false.

    Args:
        camera: Of all frames, as far as it is known.
        keyframes: Their frame indices, rising.
        pairs: Their verified matches.
        predicted: The network's poses of all frames, (N, 4, 4).
        read_depth: Gives the network's depth.
        with_loops: Whether matches of keyframes far apart count.
    """
    ranks = {frame: rank for rank, frame in enumerate(keyframes)}
    edges = _measured(camera, pairs, ranks, read_depth, with_loops)
    network = NetworkMotion.judged(
        predicted,
        [
            (keyframes[edge.first], keyframes[edge.second], edge.motion)
            for edge in edges
            if edge.second - edge.first == 1
        ],
    )
    steps = [network.between(*two) for two in pairwise(keyframes)]
    path = [
        Edge(rank, rank + 1, motion.similarity, motion.whitening)
        for rank, motion in enumerate(steps)
    ]
    edges = _as_good_as_they_are(edges, path, len(keyframes))
    solved = solve_pose_graph(len(keyframes), edges + path)
    return _result(solved, keyframes, edges)


def _measured(
    camera: Intrinsics,
    pairs: Sequence[MatchedPair],
    ranks: dict[int, int],
    read_depth: DepthReader,
    with_loops: bool,
) -> list[Edge]:
    edges = []
    for pair in pairs:
        first, second = ranks[pair.first], ranks[pair.second]
        loop = second - first > _REACH
        if loop and not with_loops:
            continue
        motion = measure_pair(camera, pair, read_depth)
        if motion is not None:
            edges.append(Edge(first, second, motion.similarity, motion.whitening, loop))
    return edges


def _as_good_as_they_are(edges: list[Edge], path: list[Edge], count: int) -> list[Edge]:
    """Edges with their errors made as large as neighbours' contradictions show them to be."""
    near = [edge for edge in edges if not edge.loop]
    redundant = 1 - (count - 1) / len(near) if near else 0.0
    if redundant <= 0:
        return edges
    solved = solve_pose_graph(count, near + path)
    typical = np.median(solved.residuals[: len(near)]) / np.sqrt(7 * redundant)
    return [replace(edge, whitening=edge.whitening / max(1.0, typical)) for edge in edges]


def _result(solved: SolvedGraph, keyframes: Sequence[int], edges: list[Edge]) -> KeyframeGraph:
    loops = np.array([edge.loop for edge in edges], bool)
    wrong = solved.residuals[: len(edges)] > OUTLIER
    return KeyframeGraph(
        camera_to_world={
            frame: pose_matrix(at.rotation, at.translation)
            for frame, at in zip(keyframes, solved.bodies, strict=True)
        },
        loops=int(loops.sum()),
        contradicted=frozenset(
            (keyframes[edge.first], keyframes[edge.second])
            for edge, false in zip(edges, loops & wrong, strict=True)
            if false
        ),
    )
