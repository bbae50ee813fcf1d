"""The weights that come with the package."""

from __future__ import annotations

import pytest
import torch

from mem3r_plugin.model.weights import bundled_weights, load_network
from mem3r_plugin.stream.preprocess import four_by_three
from mem3r_plugin.training.validation import validate


@pytest.mark.parametrize("name", bundled_weights())
def test_bundled_weights_are_small_and_have_a_card(name: str) -> None:
    file = bundled_weights()[name]
    assert file.stat().st_size < 40e6
    assert file.with_suffix(".md").is_file()


def test_default_model_has_weights() -> None:
    assert "mem3r-tiny" in bundled_weights()


def test_depth_is_better_than_the_mean_of_the_training_worlds() -> None:
    """What the model card claims, on fewer worlds."""
    network = load_network("mem3r-tiny")
    size = four_by_three(network.config.picture_size)
    errors = validate(network, size, sequences=10, views=6)
    assert errors["abs_rel"] < errors["trivial_abs_rel"]
    assert errors["delta_125"] > errors["trivial_delta_125"]


def test_long_streams_stay_finite() -> None:
    """The fast weights are written once a frame; 200 unrelated pictures must not make them run away."""
    network = load_network("mem3r-tiny")
    state = network.initial_state()
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for _ in range(200):
            picture = torch.rand(1, 3, 48, 64, generator=generator) * 2 - 1
            output, state = network.step(state, network.encode(picture), (48, 64))
        assert torch.isfinite(output.pose).all()
        assert all(torch.isfinite(tensor).all() for tensor in state.to_tensors().values())
