"""Procedural worlds: endless training and evaluation sequences with exact depth, pose and intrinsics.

    views = sample_sequence(seed=7, frames=16, size=(128, 96))

Seeds from `HELD_BACK` (1,000,000,000) on are for evaluation only; training never uses them.
"""

from mem3r_plugin.training.worlds.effects import CameraEffects
from mem3r_plugin.training.worlds.handling import Handling
from mem3r_plugin.training.worlds.paths import STYLES, Style, sample_path
from mem3r_plugin.training.worlds.photometry import disturb, grade
from mem3r_plugin.training.worlds.recording import write_sequence
from mem3r_plugin.training.worlds.render import RenderedViews
from mem3r_plugin.training.worlds.scenes import KINDS, Kind, World, WorldConfig, generate_world
from mem3r_plugin.training.worlds.sequences import HELD_BACK, sample_batch, sample_sequence

__all__ = [
    "HELD_BACK",
    "KINDS",
    "STYLES",
    "CameraEffects",
    "Handling",
    "Kind",
    "RenderedViews",
    "Style",
    "World",
    "WorldConfig",
    "disturb",
    "generate_world",
    "grade",
    "sample_batch",
    "sample_path",
    "sample_sequence",
    "write_sequence",
]
