"""Errors against known poses and depth."""

from mem3r_plugin.evaluation.depth import DepthErrors, depth_errors
from mem3r_plugin.evaluation.scan import evaluate_scan, match_frames
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.evaluation.trajectory import TrajectoryErrors, trajectory_errors

__all__ = [
    "DepthErrors",
    "PosedSequence",
    "TrajectoryErrors",
    "depth_errors",
    "evaluate_scan",
    "match_frames",
    "trajectory_errors",
]
