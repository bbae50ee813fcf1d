"""The network, its recurrent state, its update rules and its weights."""

from mem3r_plugin.model.config import NetworkConfig
from mem3r_plugin.model.heads import FrameOutput
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.model.state import RecurrentState
from mem3r_plugin.model.updates import UpdateRule, available_rules, load_rule

__all__ = [
    "FrameOutput",
    "NetworkConfig",
    "ReconstructionNetwork",
    "RecurrentState",
    "UpdateRule",
    "available_rules",
    "load_rule",
]
