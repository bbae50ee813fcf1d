import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import (
    invert_pose,
    pose_matrix,
    relative_pose,
    rotation_angle,
    rotation_from_quaternion,
    transform_points,
)
from mem3r_plugin.refine.graph.edges import MatchedPair, measure_motion

CAMERA = Intrinsics.centred(500.0, 640, 480)
UNIT = 1.3  # of the second frame's depth, in units of the first's


def seen_twice(rng, shift, count=150, noise=0.5):
    """Matches of random points from two cameras, and their true depths and motion."""
    turn = rotation_from_quaternion([1.0, *(0.05 * rng.normal(size=3))])
    second = pose_matrix(turn, shift * rng.normal(size=3) / np.sqrt(3))
    pixels = rng.uniform([60, 60], [580, 420], (count, 2))
    points = CAMERA.unproject(pixels, rng.uniform(2, 6, count))
    local = transform_points(invert_pose(second), points)
    moved = CAMERA.project(local) + noise * rng.normal(size=(count, 2))
    pair = MatchedPair(0, 1, pixels + noise * rng.normal(size=(count, 2)), moved)
    return pair, points[:, 2], local[:, 2] / UNIT, relative_pose(np.eye(4), second)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.02, 0.3]), st.sampled_from([0.0, 0.1]))
def test_motion_is_found_with_and_without_parallax_and_knows_its_error(seed, shift, wrong):
    """Depth is wrong by a tenth at every point on its own, or not at all."""
    rng = np.random.default_rng(seed)
    pair, depth, second_depth, truth = seen_twice(rng, shift)
    depth = depth * np.exp(wrong * rng.normal(size=len(depth)))
    second_depth = second_depth * np.exp(wrong * rng.normal(size=len(depth)))
    motion = measure_motion(CAMERA, pair, depth, second_depth)
    assert motion is not None
    found = motion.similarity
    assert rotation_angle(found.rotation.T @ truth[:3, :3]) < 0.01
    assert np.linalg.norm(found.translation - truth[:3, 3]) < 0.02 + 0.1 * shift
    assert found.scale == pytest.approx(UNIT, rel=0.05)
    error = np.concatenate(
        [np.zeros(3), truth[:3, 3] - found.translation, [np.log(UNIT / found.scale)]]
    )
    assert np.linalg.norm(motion.whitening @ error) < 6


def test_false_matches_do_not_bend_it():
    rng = np.random.default_rng(1)
    pair, depth, second_depth, truth = seen_twice(rng, 0.3)
    pair.second_pixels[:30] = rng.uniform([0, 0], [640, 480], (30, 2))
    motion = measure_motion(CAMERA, pair, depth, second_depth)
    assert motion is not None
    assert np.linalg.norm(motion.similarity.translation - truth[:3, 3]) < 0.02


def test_nothing_is_measured_without_depth_or_agreement():
    rng = np.random.default_rng(2)
    pair, depth, second_depth, _ = seen_twice(rng, 0.3)
    few = np.where(np.arange(len(depth)) < 8, depth, 0)
    assert measure_motion(CAMERA, pair, few, second_depth) is None
    pair.second_pixels[:] = rng.uniform([0, 0], [640, 480], pair.second_pixels.shape)
    assert measure_motion(CAMERA, pair, depth, second_depth) is None
