"""Errors against known poses, depth and surfaces."""

from mem3r_plugin.evaluation.depth import DepthErrors, depth_errors
from mem3r_plugin.evaluation.evo_trajectory import evo_trajectory_errors
from mem3r_plugin.evaluation.layouts import Layout, load_sequence
from mem3r_plugin.evaluation.protocols import PROTOCOLS, Protocol
from mem3r_plugin.evaluation.reconstruction import ReconstructionErrors, reconstruction_errors
from mem3r_plugin.evaluation.report import evaluate
from mem3r_plugin.evaluation.scan import evaluate_scan, match_frames
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.evaluation.trajectory import TrajectoryErrors, trajectory_errors

__all__ = [
    "PROTOCOLS",
    "DepthErrors",
    "Layout",
    "PosedSequence",
    "Protocol",
    "ReconstructionErrors",
    "TrajectoryErrors",
    "depth_errors",
    "evaluate",
    "evaluate_scan",
    "evo_trajectory_errors",
    "load_sequence",
    "match_frames",
    "reconstruction_errors",
    "trajectory_errors",
]
