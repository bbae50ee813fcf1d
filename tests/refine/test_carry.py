import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry.pose import (
    pose_matrix,
    relative_pose,
    rotation_angle,
    rotation_from_quaternion,
)
from mem3r_plugin.refine.carry import carry_frames, interpolate_pose


def random_poses(count, seed=0):
    rng = np.random.default_rng(seed)
    turn = np.concatenate([np.ones((count, 1)), 0.2 * rng.normal(size=(count, 3))], axis=1)
    return pose_matrix(rotation_from_quaternion(turn), np.cumsum(rng.normal(size=(count, 3)), 0))


@given(st.integers(0, 1000), st.floats(0, 1))
def test_interpolation_turns_and_moves_evenly(seed, share):
    first, second = random_poses(2, seed)
    between = interpolate_pose(first, second, share)
    whole = rotation_angle(relative_pose(first, second)[:3, :3])
    assert np.isclose(
        rotation_angle(relative_pose(first, between)[:3, :3]), share * whole, atol=1e-6
    )
    expected = first[:3, 3] + share * (second - first)[:3, 3]
    assert np.allclose(between[:3, 3], expected)


@given(st.integers(0, 100), st.floats(0.1, 10))
def test_frames_follow_a_network_that_is_right_up_to_scale(seed, scale):
    true = random_poses(12, seed)
    predicted = true.copy()
    predicted[:, :3, 3] /= scale
    known = {index: true[index] for index in (0, 1, 2, 3, 5, 6, 7, 10, 11)}
    poses, trusted = carry_frames(known, predicted)
    assert trusted
    # The scale comes from the steps between anchors, straight ones over gaps.
    for index in (4, 8, 9):
        assert np.allclose(poses[index, :3, :3], true[index, :3, :3], atol=1e-6)
    assert np.allclose(poses[sorted(known)], true[sorted(known)])
    assert np.allclose(poses[4, :3, 3], true[4, :3, 3], atol=1e-6)


def test_frames_move_evenly_where_the_network_is_wrong():
    true = np.tile(np.eye(4), (11, 1, 1))
    true[:, 0, 3] = np.arange(11)
    known = {index: true[index] for index in range(11) if index not in (4, 5)}
    poses, trusted = carry_frames(known, random_poses(11))
    assert not trusted
    assert np.allclose(poses, true)


def test_frames_beyond_the_last_known_one_stay_with_it():
    known = {index: np.eye(4) for index in (2, 3, 4)}
    poses, _ = carry_frames(known, np.tile(np.eye(4), (7, 1, 1)))
    assert np.allclose(poses, np.eye(4))
