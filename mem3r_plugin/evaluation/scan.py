"""A scan measured against the truth, beside what needs no network at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
_GRID = np.s_[::_DEPTH_STRIDE, ::_DEPTH_STRIDE]


@dataclass(frozen=True, eq=False)
class ComparedDepth:
    """Pixels of a scan whose true depth is known, all of shape (N,)."""

    predicted: NDArray[np.float32]
    """The scan's depth; 0 = none."""
    true: NDArray[np.float32]
    """The true depth, positive."""
    confidence: NDArray[np.float32]
    """The scan's confidence, at least 1."""
    constant: NDArray[np.floating]
    """What a map that is the same in every frame says."""


def match_frames(scan: Scan, sequence: PosedSequence) -> NDArray[np.int64]:
    """The index in `sequence` of every frame of the scan, shape (N,), -1 where it has none.

    By the names of the pictures where the scan was made from picture files and any has such a name,
    else (a video of the sequence) by position.

    Raises:
        ScanError: a frame lies beyond the sequence's end.
    """
    ranks = {image.stem: rank for rank, image in enumerate(sequence.images)}
    stems = [frame.name.rsplit(".", 1)[0] for frame in scan.frames]
    from_files = all(frame.image is not None for frame in scan.frames)
    if from_files and any(stem in ranks for stem in stems):
        return np.array([ranks.get(stem, -1) for stem in stems])
    positions = np.array([frame.position for frame in scan.frames])
    if positions.max() >= len(sequence):
        raise ScanError(
            f"{scan.path} was not made from {sequence.directory}: frame {stems[positions.argmax()]} "
            f"lies at position {positions.max()}, the sequence has {len(sequence)} pictures"
        )
    return positions


def posed_frames(
    scan: Scan, sequence: PosedSequence
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames of the scan whose true pose is known and their indices in `sequence`, both (N,).

    Raises:
        ScanError: there are fewer than two, or the scan was not made from this sequence.
    """
    matches = match_frames(scan, sequence)
    frames = np.flatnonzero((matches >= 0) & sequence.posed[matches])
    if len(scan) < 2:
        raise ScanError(f"{scan.path} has one frame only; a trajectory needs two")
    if len(frames) < 2:
        raise ScanError(
            f"{sequence.directory} knows the pose of {len(frames)} of the {len(scan)} frames of "
            f"{scan.path}; a trajectory needs two"
        )
    return frames, matches[frames]


def compare_depth(
    scan: Scan,
    sequence: PosedSequence,
    frames: NDArray[np.int64],
    matches: NDArray[np.int64],
    constant: NDArray[np.floating] | None = None,
) -> ComparedDepth:
    """The depth of some frames of a scan at pixels where the truth is known, one in 16 of them.

    Args:
        scan: With depth at network size.
        sequence: The truth, with depth.
        frames: Which frames, shape (N,).
        matches: Their indices in `sequence`, shape (N,).
        constant: A map (h, w) at network size that is compared as well; ones by default.

    Raises:
        ScanError: the scan's pictures have another size than the sequence's.
    """
    width, height = scan.transform.target_size
    constant = np.ones((height, width)) if constant is None else constant
    constant = scan.transform.inverse.sample(constant)[_GRID]
    compared = []
    for frame, match in zip(frames.tolist(), matches.tolist(), strict=True):
        predicted = scan.original_depth(frame)[_GRID]
        confidence = scan.transform.inverse.sample(scan.confidence(frame), outside=1.0)[_GRID]
        true = sequence.depth(match)[_GRID]
        if predicted.shape != true.shape:
            raise ScanError(
                f"{scan.path} was not made from {sequence.directory}: its pictures have another size"
            )
        maps = np.stack([predicted, true, confidence, constant])
        compared.append(maps[:, true > 0].astype(np.float32))
    return ComparedDepth(*np.concatenate(compared, axis=1))


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
        ScanError: fewer than two frames have a true pose, or the scan was not made from this sequence.
    """
    frames, matches = posed_frames(scan, sequence)
    true_poses = sequence.camera_to_world[matches]
    poses = np.stack([scan.frames[frame].camera_to_world for frame in frames])
    still = np.broadcast_to(np.eye(4), poses.shape)
    depth, baseline_depth = None, None
    if sequence.has_depth:
        compared = compare_depth(scan, sequence, frames, matches, mean_depth)
        depth, baseline_depth = _depth_errors(compared)
    return {
        "trajectory": asdict(trajectory_errors(poses, true_poses)),
        "depth": depth and asdict(depth),
        "baseline": {
            "trajectory": asdict(trajectory_errors(still, true_poses)),
            "depth": baseline_depth and asdict(baseline_depth),
        },
    }


def _depth_errors(compared: ComparedDepth) -> tuple[DepthErrors | None, DepthErrors | None]:
    """Errors of the scan and of the baseline on the pixels where both scan and truth have depth."""
    known = compared.predicted > 0
    if not known.any():
        return None, None
    true = compared.true[known]
    return (
        depth_errors(compared.predicted[known], true),
        depth_errors(compared.constant[known], true),
    )
