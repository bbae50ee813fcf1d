"""The recipes in `configs/training`."""

from __future__ import annotations

import re
import shlex

import pytest
from torch.distributed.run import get_args_parser

from mem3r_plugin.configuration import find_preset, load_preset, preset_names
from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.training.config import TrainingConfig

SMALLER = {"ablation"} | {
    f"tiny_cpu{part}" for part in ("", "_motion", "_long", "_varied", "_lifelike", "_shapes")
}
"""Recipes that lead up to the bundled weights in smaller pictures than these see now."""


@pytest.mark.parametrize("name", preset_names("training"))
def test_recipe_is_complete(name: str) -> None:
    config = load_preset("training", name, TrainingConfig())
    network = load_preset("model", config.model, NetworkConfig())
    expected = 128 if name in SMALLER else network.picture_size
    assert max(config.data.first_shape) == expected
    assert config.optimiser.warmup_steps < config.steps


@pytest.mark.parametrize("name", preset_names("training"))
def test_torchrun_takes_a_recipes_own_command(name: str) -> None:
    head = find_preset("training", name).read_text()
    for command in re.findall(r"\btorchrun [^`\n]*", head):
        words = shlex.split(command.replace(" N ", " 2 "))
        parsed = get_args_parser().parse_args(words[1:])
        assert parsed.training_script == "mem3r", command
        assert parsed.training_script_args[0] == "train", command


def test_fine_tuning_follows_the_paper() -> None:
    config = load_preset("training", "finetune_from_cut3r", TrainingConfig())
    assert config.optimiser.learning_rate == 1e-6
    assert {stage.views for stage in config.stages} >= {4, 64}
    assert all(stage.sequences == 8 for stage in config.stages)
    assert config.loss.confidence == 0.2
