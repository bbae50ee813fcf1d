import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.refine.graph.edges import MatchedPair
from mem3r_plugin.refine.graph.loops import epipolar_distance, explained_pairs
from tests.refine.random_poses import random_poses

CAMERA = Intrinsics(500, 520, 310, 250, 640, 480)


def poses_and_pair(seed):
    poses = random_poses(2, seed)
    points = poses[0, :3, 3] + [0, 0, 20] + np.random.default_rng(seed).uniform(-3, 3, (40, 3))
    pixels = [CAMERA.project(transform_points(invert_pose(pose), points)) for pose in poses]
    return dict(enumerate(poses)), MatchedPair(0, 1, *pixels)


@given(st.integers(0, 1000))
def test_true_matches_lie_on_their_epipolar_lines_and_shifted_ones_beside_them(seed):
    poses, pair = poses_and_pair(seed)
    assert epipolar_distance(CAMERA, poses, pair).max() < 1e-6
    shift = np.random.default_rng(seed).normal(size=pair.second_pixels.shape)
    moved = MatchedPair(0, 1, pair.first_pixels, pair.second_pixels + shift)
    distance = epipolar_distance(CAMERA, poses, moved)
    assert (distance <= np.linalg.norm(shift, axis=1) + 1e-9).all()
    assert distance.max() > 0.1


def test_poses_that_look_elsewhere_explain_nothing():
    poses, pair = poses_and_pair(1)
    beyond = MatchedPair(1, 2, pair.first_pixels, pair.second_pixels)
    assert explained_pairs(CAMERA, poses, [pair, beyond]).tolist() == [True, False]
    turned = {**poses, 1: random_poses(2, 5)[1]}
    assert not explained_pairs(CAMERA, turned, [pair, pair]).any()
