"""The first Gaussians lie on the surfaces, as large as the gaps between them, in their colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mem3r_gsplat import SeedConfig, seed_gaussians
from mem3r_gsplat.gaussians import SH_C0
from mem3r_gsplat.seeds import local_spacing, opacity_of
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.scan import Scan
from tests.room_scan import distance_to_walls, room_colours


def test_seeds_lie_on_the_walls_in_their_colours(room: Scan) -> None:
    gaussians = seed_gaussians(room)
    positions = gaussians.means.double().numpy()
    assert len(gaussians) > 300
    assert distance_to_walls(positions).max() < 2 * room.depth_unit + 1e-3
    colours = 255 * (0.5 + SH_C0 * gaussians.sh0[:, 0].numpy())
    assert np.abs(colours - room_colours(positions)).mean() < 3
    assert gaussians.sh_degree == 3
    assert not gaussians.shN.any()
    assert torch.equal(gaussians.quats[:, 0], torch.ones(len(gaussians)))


def test_opacity_is_a_logit_and_follows_confidence(room: Scan) -> None:
    opacity = seed_gaussians(room).opacities.sigmoid()
    assert 0.1 <= float(opacity.min()) < float(opacity.max()) < 0.9
    assert (np.diff(opacity_of(np.array([1.0, 2.0, 10.0, 1e6]))) > 0).all()


@given(st.floats(0.01, 10.0), st.integers(5, 9))
def test_spacing_of_a_grid_is_its_step(step: float, side: int) -> None:
    axis = step * np.arange(side)
    grid = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    assert np.allclose(local_spacing(grid), step)


@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_spacing_scales_with_the_scene(factor: float, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(50, 3))
    assert np.allclose(local_spacing(factor * points), factor * local_spacing(points))


def test_a_lonely_point_is_no_boulder() -> None:
    points = np.concatenate([np.random.default_rng(0).uniform(size=(100, 3)), [[1e3, 0, 0]]])
    spacing = local_spacing(points)
    assert spacing[-1] == pytest.approx(4 * np.median(spacing))


def test_unknown_degree_is_refused() -> None:
    with pytest.raises(ConfigError, match="0, 1, 2 or 3"):
        SeedConfig(sh_degree=4)
