"""All errors of a scan by a protocol, ready for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ScanError
from mem3r_plugin.evaluation.depth import depth_errors
from mem3r_plugin.evaluation.evo_trajectory import evo_trajectory_errors
from mem3r_plugin.evaluation.protocols import Protocol
from mem3r_plugin.evaluation.reconstruction import scan_reconstruction_errors
from mem3r_plugin.evaluation.scan import compare_depth, posed_frames
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.refine.depth.sequence import CONFIDENT
from mem3r_plugin.scan import Scan

MOST_CONFIDENT = 0.7
"""Share of the pixels with true depth, the most confident ones, that `most_confident` errors cover."""

_CODE_STEP = 1e-3
"""Relative room for the 8-bit code of confidence."""


def evaluate(
    scan: Scan, sequence: PosedSequence, protocol: Protocol | None = None
) -> dict[str, Any]:
    """Errors of a scan against the truth.

    Returns:
        `frames` and `frames_without_truth`, and in `results` one object per length of the protocol:

        * `frames`;
        * `trajectory`, fields of `TrajectoryErrors`, by evo;
        * `depth`, None where the sequence has none: fields of `DepthErrors` for `metric`, `scaled`
          (one median scale for the sequence), and at the same scale `confident` (pixels that a
          refined scan calls confident, None where there is none) and `most_confident` (the best 70 %
          by rank); `least_absolute` has `scaled` and `confident` at the scale of least absolute error,
          which does not jump where few depths lie around the median; `coverage` and
          `confident_share` are the shares of the pixels with true depth that the scan has depth for,
          and that it calls confident;
        * `reconstruction`, fields of `ReconstructionErrors`, None where the sequence has no depth.

        What the protocol does not measure is left out.

    Raises:
        ConfigError: evo or SciPy is not installed.
        ScanError: the scan was not made from this sequence or does not fit the protocol.
    """
    protocol = protocol or Protocol()
    frames, matches = posed_frames(scan, sequence)
    _check_stride(scan, matches, protocol)
    lengths = [length for length in protocol.lengths if length <= len(scan)]
    if protocol.lengths and not lengths:
        raise ScanError(
            f"{scan.path} has {len(scan)} frames; the protocol compares the first "
            f"{protocol.lengths[0]} at least"
        )
    results = []
    for length in lengths or [len(scan)]:
        used = frames < length
        results.append(_measure(scan, sequence, frames[used], matches[used], protocol))
    return {
        "scan": str(scan.path),
        "truth": str(sequence.directory.resolve()),
        "frames": len(scan),
        "frames_without_truth": len(scan) - len(frames),
        "results": results,
    }


def _check_stride(scan: Scan, matches: NDArray[np.int64], protocol: Protocol) -> None:
    if protocol.stride is None:
        return
    stride = int(np.median(np.diff(matches)))
    if stride != protocol.stride:
        raise ScanError(
            f"{scan.path} takes every {stride}. picture, the protocol every {protocol.stride}.; "
            f"run again with --stride {protocol.stride}"
        )


def _measure(
    scan: Scan,
    sequence: PosedSequence,
    frames: NDArray[np.int64],
    matches: NDArray[np.int64],
    protocol: Protocol,
) -> dict[str, Any]:
    result: dict[str, Any] = {"frames": len(frames)}
    if "trajectory" in protocol.measures:
        poses = np.stack([scan.frames[frame].camera_to_world for frame in frames])
        errors = evo_trajectory_errors(poses, sequence.camera_to_world[matches])
        result["trajectory"] = asdict(errors)
    if "depth" in protocol.measures:
        result["depth"] = _depth(scan, sequence, frames, matches) if sequence.has_depth else None
    if "reconstruction" in protocol.measures:
        result["reconstruction"] = (
            asdict(scan_reconstruction_errors(scan, sequence, frames, matches))
            if sequence.has_depth
            else None
        )
    return result


def _depth(
    scan: Scan, sequence: PosedSequence, frames: NDArray[np.int64], matches: NDArray[np.int64]
) -> dict[str, Any] | None:
    """Depth errors; None where no pixel has both depths."""
    compared = compare_depth(scan, sequence, frames, matches)
    known = compared.predicted > 0
    if not known.any():
        return None
    predicted, true = compared.predicted[known], compared.true[known]
    scaled = depth_errors(predicted, true, "median")
    fitted = depth_errors(predicted, true, "absolute")

    def at_scale(scale: float, part: NDArray[Any]) -> dict[str, Any] | None:
        if not len(predicted[part]):
            return None
        return asdict(depth_errors(scale * predicted[part], true[part], "metric"))

    confidence = compared.confidence[known]
    confident = confidence >= CONFIDENT * (1 - _CODE_STEP)
    # The rank, not a threshold: confidences are coded in 8 bits and many are equal.
    best = np.argsort(-confidence, kind="stable")[: round(MOST_CONFIDENT * len(compared.true))]
    return {
        "metric": asdict(depth_errors(predicted, true, "metric")),
        "scaled": asdict(scaled),
        "confident": at_scale(scaled.scale, confident),
        "most_confident": at_scale(scaled.scale, best),
        "least_absolute": {
            "scaled": asdict(fitted),
            "confident": at_scale(fitted.scale, confident),
        },
        "coverage": float(known.mean()),
        "confident_share": float(confident.sum() / len(compared.true)),
    }
