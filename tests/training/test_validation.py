"""Measuring on held-back worlds."""

from __future__ import annotations

import numpy as np
import pytest

from mem3r_plugin.model.weights import random_network
from mem3r_plugin.training.validation import ERRORS, mean_depth, sequence_errors, validate
from mem3r_plugin.training.worlds import HELD_BACK, sample_sequence
from tests.model.networks import MEM3R

SIZE = (48, 32)


def test_the_truth_has_no_errors() -> None:
    truth = sample_sequence(HELD_BACK, 6, SIZE, stride=4)
    # Depth counts up to one scale, poses up to one similarity.
    poses = truth.camera_to_world.numpy().copy()
    poses[:, :3, 3] *= 3
    errors = sequence_errors(2 * truth.depth.numpy(), poses, truth)
    assert errors["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert errors["delta_125"] == 1
    assert errors["rpe_translation"] == pytest.approx(0, abs=1e-6)
    assert errors["rpe_rotation"] == pytest.approx(0, abs=1e-4)
    assert errors["ate_percent"] == pytest.approx(0, abs=1e-4)


def test_the_baseline_stands_beside_the_network() -> None:
    errors = validate(random_network(MEM3R), SIZE, sequences=2, views=4)
    assert errors.keys() == {*ERRORS, *(f"trivial_{name}" for name in ERRORS)}
    assert all(np.isfinite(list(errors.values())))
    assert 0 < errors["trivial_abs_rel"] < 2
    assert errors["trivial_rpe_rotation"] > 0


def test_mean_depth_is_nearer_below() -> None:
    """Cameras stand on floors: the lower rows of a picture are nearer than its middle."""
    depth = mean_depth(SIZE)
    assert depth.shape == (SIZE[1], SIZE[0])
    assert (depth > 0).all()
    assert depth[-4:].mean() < depth[SIZE[1] // 2 - 2 : SIZE[1] // 2 + 2].mean()
