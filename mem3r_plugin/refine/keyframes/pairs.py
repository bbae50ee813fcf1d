"""Which pairs of keyframes are worth matching."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.refine.keyframes.matching import MatchingConfig, Pairs
from mem3r_plugin.refine.keyframes.overlap import predicted_overlap
from mem3r_plugin.refine.keyframes.picture_names import frame_of
from mem3r_plugin.refine.keyframes.retrieval import network_similarity, picture_similarity
from mem3r_plugin.scan import Scan


def choose_pairs(
    scan: Scan, database: Path, names: list[str], config: MatchingConfig
) -> tuple[Pairs, Pairs]:
    """Pairs that follow from the order of the keyframes, and those that may show the same place.

    The network suggests what looks alike to it, the sooner the more its poses and depth say that it
    overlaps; SIFT features suggest what looks alike to them. Neither is believed: matching decides.

    Args:
        scan: Where the keyframes come from.
        database: COLMAP database with the features of the keyframes.
        names: File names of the keyframes' pictures, numbered by their frame.
        config: How many.
    """
    pairs = sequential_pairs(len(names), config.sequential)
    if len(names) < config.exhaustive_below:
        return pairs, all_pairs(len(names)) - pairs
    indices = [frame_of(name) for name in names]
    local = picture_similarity(database, names)
    network = network_similarity(scan, indices)
    looks = local if network is None else network
    same_place = (1 + predicted_overlap(scan, indices)) * looks
    suggested = best_pairs(local, config.loops, pairs)
    suggested |= best_pairs(same_place, config.overlapping, pairs | suggested)
    return pairs, suggested


def sequential_pairs(count: int, neighbours: int) -> Pairs:
    """Each of `count` keyframes with its `neighbours` predecessors and those 8, 16, 32 … before."""
    gaps = set(range(1, neighbours + 1)) | {2**power for power in range(3, 7)}
    return {(i, i + gap) for gap in gaps for i in range(count - gap)}


def best_pairs(similarity: NDArray[np.floating], per_keyframe: int, known: Pairs) -> Pairs:
    """For every keyframe the most similar others that are not among the `known` pairs.

    Args:
        similarity: Symmetric, shape (n, n); pairs with 0 or less are never chosen.
        per_keyframe: How many others at most.
        known: Pairs that are matched anyway.
    """
    open_ = np.array(similarity, np.float64)
    np.fill_diagonal(open_, 0)
    if known:
        rows, columns = np.array(sorted(known)).T
        open_[rows, columns] = open_[columns, rows] = 0
    pairs: Pairs = set()
    for i, row in enumerate(open_):
        for j in np.argsort(-row, kind="stable")[:per_keyframe].tolist():
            if row[j] > 0:
                pairs.add((min(i, j), max(i, j)))
    return pairs


def all_pairs(count: int) -> Pairs:
    """Every pair of `count` keyframes."""
    return set(combinations(range(count), 2))
