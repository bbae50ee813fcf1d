"""The recipes in `configs/training`."""

from __future__ import annotations

import pytest

from mem3r_plugin.configuration import load_preset, preset_names
from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.training.config import TrainingConfig


@pytest.mark.parametrize("name", preset_names("training"))
def test_recipe_is_complete(name: str) -> None:
    config = load_preset("training", name, TrainingConfig())
    network = load_preset("model", config.model, NetworkConfig())
    assert max(config.data.size) == network.picture_size
    assert config.optimiser.warmup_steps < config.steps


def test_fine_tuning_follows_the_paper() -> None:
    config = load_preset("training", "finetune_from_cut3r", TrainingConfig())
    assert config.optimiser.learning_rate == 1e-6
    assert {stage.views for stage in config.stages} >= {4, 64}
    assert all(stage.sequences == 8 for stage in config.stages)
    assert config.loss.confidence == 0.2
