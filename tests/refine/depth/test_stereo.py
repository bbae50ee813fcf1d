import numpy as np
import pytest
import torch

from mem3r_plugin.refine.depth.neighbours import choose_neighbours
from mem3r_plugin.refine.depth.semi_global import aggregate
from mem3r_plugin.refine.depth.stereo import PriorDepth, StereoConfig, match, plane_sweep
from tests.refine import stereo_room

RANGE = (1.5, 6.0)


def relative_error(inverse_depth: torch.Tensor, index: int) -> np.ndarray:
    truth = stereo_room.true_depth(index)
    return np.abs(1 / inverse_depth.numpy() - truth) / truth


@pytest.fixture(scope="module")
def others():
    return [stereo_room.view(i) for i in (-2, -1, 1, 2)]


def test_views_match_best_at_the_true_depth(others) -> None:
    truth = torch.from_numpy(1 / stereo_room.true_depth(0)).float()
    wrong = 1.15 * truth
    scores = match(stereo_room.view(0), others, torch.stack([truth, wrong]), window=5)
    papered = stereo_room.papered(0)
    assert scores[0][papered].median() > 0.95
    assert (scores[0] > scores[1])[papered].float().mean() > 0.95


def test_a_change_of_brightness_does_not_matter(others) -> None:
    view = stereo_room.view(0)
    darker = type(view)(0.5 * view.grey + 0.1, view.camera, view.camera_to_world)
    truth = torch.from_numpy(1 / stereo_room.true_depth(0)).float()[None]
    papered = stereo_room.papered(0)
    scores = match(darker, others, truth, window=5)[0]
    assert scores[papered].median() > 0.95


def test_textured_walls_come_out_within_a_percent(others) -> None:
    depth = plane_sweep(stereo_room.view(0), others, RANGE, StereoConfig())
    error = relative_error(depth, 0)[stereo_room.papered(0)]
    assert np.median(error) < 0.01
    assert np.mean(error) < 0.03


def test_a_prior_decides_where_there_is_no_texture(others) -> None:
    truth = torch.from_numpy(1 / stereo_room.true_depth(0)).float()
    prior = PriorDepth(truth, spread=0.02)
    blank = ~stereo_room.papered(0)
    without = plane_sweep(stereo_room.view(0), others, RANGE, StereoConfig())
    helped = plane_sweep(stereo_room.view(0), others, RANGE, StereoConfig(), prior)
    assert relative_error(helped, 0)[blank].mean() < 0.5 * relative_error(without, 0)[blank].mean()


def test_texture_overrules_a_wrong_prior(others) -> None:
    wrong = PriorDepth(torch.full((60, 80), 1 / 2.0), spread=0.3)
    depth = plane_sweep(stereo_room.view(0), others, RANGE, StereoConfig(), wrong)
    papered = stereo_room.papered(0)
    assert np.median(relative_error(wrong.inverse_depth, 0)[papered]) > 0.2
    assert np.median(relative_error(depth, 0)[papered]) < 0.025


def test_aggregation_closes_a_hole_in_a_plane() -> None:
    cost = torch.ones(20, 30, 8)
    cost[..., 3] = 0
    cost[8:12, 10:14] = 0.5  # no evidence here
    smooth = aggregate(cost, torch.full((20, 30), 0.5), 0.03, 0.35)
    assert (smooth.argmin(dim=-1) == 3).all()


def test_aggregation_treats_all_directions_alike() -> None:
    cost = torch.rand(9, 9, 5)
    guide = torch.rand(9, 9)
    expected = aggregate(cost, guide, 0.03, 0.35)
    for turns in (1, 2, 3):
        turned = aggregate(cost.rot90(turns), guide.rot90(turns), 0.03, 0.35)
        torch.testing.assert_close(turned.rot90(-turns), expected)


def test_neighbours_see_the_same_at_a_good_angle() -> None:
    poses = np.stack([stereo_room.pose(i) for i in range(6)] + [stereo_room.pose(0)])
    poses[5, :3, :3] = np.diag([-1.0, 1.0, -1.0])  # looks back
    chosen = choose_neighbours(
        stereo_room.structure(0), stereo_room.CAMERA, poses, 0, [1, 2, 3, 4, 5, 6], 3, 5.0
    )
    assert len(chosen) == 3
    assert 5 not in chosen
    assert 6 not in chosen  # the same place
