"""A scan measured against the truth, beside what needs no network at all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ScanError
from mem3r_plugin.evaluation.depth import DepthErrors, depth_errors
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.evaluation.trajectory import trajectory_errors
from mem3r_plugin.scan import Scan

_DEPTH_STRIDE = 4
"""Depth is compared at every so manieth pixel in x and y."""


def match_frames(scan: Scan, sequence: PosedSequence) -> NDArray[np.int64]:
    """The index in `sequence` of every frame of the scan, shape (N,).

    By the names of the pictures where the scan was made from picture files of these names, else (a
    video of the sequence) by position.

    Raises:
        ScanError: a frame has no counterpart.
    """
    ranks = {image.stem: rank for rank, image in enumerate(sequence.images)}
    stems = [frame.name.rsplit(".", 1)[0] for frame in scan.frames]
    from_files = all(frame.image is not None for frame in scan.frames)
    if from_files and all(stem in ranks for stem in stems):
        return np.array([ranks[stem] for stem in stems])
    positions = np.array([frame.position for frame in scan.frames])
    if positions.max() >= len(sequence):
        raise ScanError(
            f"{scan.path} was not made from {sequence.directory}: frame {stems[positions.argmax()]} "
            f"lies at position {positions.max()}, the sequence has {len(sequence)} pictures"
        )
    return positions


def evaluate_scan(
    scan: Scan, sequence: PosedSequence, mean_depth: NDArray[np.floating] | None = None
) -> dict[str, Any]:
    """Errors of a scan and of the trivial baseline, ready for JSON.

    The baseline never moves and sees the same depth map in every frame; like the scan it is aligned to
    the truth (poses by a Sim(3), depth by one median scale for the sequence).

    Args:
        scan: With at least two frames.
        sequence: The truth about the scan's source.
        mean_depth: The baseline's depth at network size, shape (h, w), for example the mean over
            training data; the same everywhere by default.

    Returns:
        `trajectory` (fields of `TrajectoryErrors`), `depth` (fields of `DepthErrors`, None where the
        sequence has no depth), and `baseline` with the same two.

    Raises:
        ScanError: the scan has fewer than two frames, or was not made from this sequence.
    """
    if len(scan) < 2:
        raise ScanError(f"{scan.path} has one frame only; a trajectory needs two")
    matches = match_frames(scan, sequence)
    true_poses = sequence.camera_to_world[matches]
    poses = np.stack([frame.camera_to_world for frame in scan.frames])
    still = np.broadcast_to(np.eye(4), poses.shape)
    depth, baseline_depth = None, None
    if sequence.depth_scale is not None:
        depth, baseline_depth = _depth_errors(scan, sequence, matches, mean_depth)
    return {
        "trajectory": asdict(trajectory_errors(poses, true_poses)),
        "depth": depth and asdict(depth),
        "baseline": {
            "trajectory": asdict(trajectory_errors(still, true_poses)),
            "depth": baseline_depth and asdict(baseline_depth),
        },
    }


def _depth_errors(
    scan: Scan,
    sequence: PosedSequence,
    matches: NDArray[np.int64],
    mean_depth: NDArray[np.floating] | None,
) -> tuple[DepthErrors | None, DepthErrors | None]:
    """Errors of the scan and of the baseline on the pixels where both scan and truth have depth."""
    width, height = scan.transform.target_size
    mean_depth = np.ones((height, width)) if mean_depth is None else mean_depth
    grid = np.s_[::_DEPTH_STRIDE, ::_DEPTH_STRIDE]
    baseline = scan.transform.inverse.sample(mean_depth)[grid]
    compared = []
    for index, match in enumerate(matches.tolist()):
        predicted = scan.original_depth(index)[grid]
        true = sequence.depth(match)[grid]
        if predicted.shape != true.shape:
            raise ScanError(
                f"{scan.path} was not made from {sequence.directory}: its pictures have another size"
            )
        known = (predicted > 0) & (true > 0)
        compared.append(np.stack([predicted[known], true[known], baseline[known]]))
    predicted, true, baseline = np.concatenate(compared, axis=1)
    if true.size == 0:
        return None, None
    return depth_errors(predicted, true), depth_errors(baseline, true)
