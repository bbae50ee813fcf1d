import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.refine.mapping.priors import position_priors


def walk(count=40):
    """A camera that walks a winding path, one unit a step, and looks about."""
    time = np.arange(count)
    steps = np.stack([np.cos(0.2 * time), 0.3 * np.sin(0.9 * time), np.sin(0.2 * time)], axis=-1)
    turns = Rotation.from_euler("yx", np.stack([0.2 * time, 0.1 * np.sin(time)], -1)).as_matrix()
    return dict(enumerate(pose_matrix(turns, np.cumsum(steps, axis=0))))


def drifting(poses, noise, seed=0):
    """The path as an odometry would give it: every motion a little wrong, errors piling up."""
    rng = np.random.default_rng(seed)
    result = {0: poses[0]}
    for frame in range(1, len(poses)):
        motion = np.linalg.inv(poses[frame - 1]) @ poses[frame]
        motion[:3, 3] += noise * rng.normal(size=3)
        motion[:3, :3] @= Rotation.from_rotvec(0.1 * noise * rng.normal(size=3)).as_matrix()
        result[frame] = result[frame - 1] @ motion
    return result


@given(st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_right_motions_give_the_right_places_in_any_frame_and_scale(scale, seed):
    poses, rng = walk(), np.random.default_rng(seed)
    move = Similarity(scale, Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3))
    priors = position_priors(poses, {frame: move.poses(pose) for frame, pose in poses.items()})
    assert priors is not None
    assert priors.useful
    for frame, centre in priors.centres.items():
        assert np.allclose(centre, poses[frame][:3, 3], atol=1e-6)


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_the_deviation_is_that_of_the_motions_whatever_the_drift(noise):
    poses = walk(200)
    predicted = drifting(poses, noise)
    assert np.linalg.norm(predicted[199][:3, 3] - poses[199][:3, 3]) > 5 * noise
    priors = position_priors(poses, predicted)
    assert priors is not None
    assert 0.5 * noise < priors.deviation < 2 * noise
    assert priors.useful
    assert priors.step == pytest.approx(1, rel=0.1)


def test_garbage_is_of_no_use():
    poses, rng = walk(), np.random.default_rng(0)
    turns = Rotation.random(40, random_state=0).as_matrix()
    garbage = dict(enumerate(pose_matrix(turns, rng.normal(size=(40, 3)))))
    priors = position_priors(poses, garbage)
    assert priors is not None
    assert not priors.useful


def test_a_network_that_sees_no_motion_is_of_no_use():
    poses = walk()
    priors = position_priors(poses, dict.fromkeys(poses, np.eye(4)))
    assert priors is not None
    assert not priors.useful


def test_nothing_is_said_of_few_frames_or_a_standing_camera():
    poses = walk(4)
    assert position_priors(poses, poses) is None
    assert position_priors(walk(), {}) is None
    standing = dict.fromkeys(range(10), np.eye(4))
    assert position_priors(standing, walk()) is None
