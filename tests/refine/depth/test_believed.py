import numpy as np
import pytest
import torch

from mem3r_plugin.refine.depth.believed import believed_depth
from mem3r_plugin.refine.depth.stereo import PriorDepth
from tests.refine import stereo_room


@pytest.fixture
def evidence():
    generator = np.random.default_rng(0)
    pixels = generator.uniform([0, 0], [80, 60], (150, 2))
    columns, rows = np.floor(pixels).astype(int).T
    return pixels, stereo_room.true_depth(0)[rows, columns]


def errors(belief: PriorDepth) -> np.ndarray:
    return np.abs(1 / belief.inverse_depth.numpy() / stereo_room.true_depth(0) - 1)


def network(spread: float) -> PriorDepth:
    noise = np.random.default_rng(1).normal(0, spread, stereo_room.true_depth(0).shape)
    inverse = torch.from_numpy(np.exp(noise) / stereo_room.true_depth(0)).float()
    return PriorDepth(inverse, 0.67 * spread)


def test_points_are_interpolated_where_there_is_no_network(evidence) -> None:
    belief = believed_depth(evidence[0], evidence[1], stereo_room.view(0).grey, None)
    assert np.median(errors(belief)) < 0.05
    assert np.median(errors(belief)) < belief.spread


def test_a_good_network_is_believed(evidence) -> None:
    good = network(0.003)
    assert believed_depth(evidence[0], evidence[1], stereo_room.view(0).grey, good) is good


def test_a_network_worse_than_interpolation_is_not(evidence) -> None:
    bad = network(0.4)
    belief = believed_depth(evidence[0], evidence[1], stereo_room.view(0).grey, bad)
    assert belief is not bad
    assert np.median(errors(belief)) < 0.5 * np.median(errors(bad))


def test_points_in_one_corner_decide_nothing_about_the_network() -> None:
    pixels = np.array([[1.5, 1.5], [2.5, 3.5]])
    bad = network(0.4)
    assert believed_depth(pixels, np.array([2.0, 2.0]), stereo_room.view(0).grey, bad) is bad
