import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.pose import relative_pose
from mem3r_plugin.refine.graph.network_motion import NetworkMotion
from tests.refine.random_poses import random_poses


def steps(poses):
    motions = relative_pose(poses[:-1], poses[1:])
    return [
        (i, i + 1, Similarity(1.0, motion[:3, :3], motion[:3, 3]))
        for i, motion in enumerate(motions)
    ]


@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_a_right_network_is_believed_in_its_own_unit(seed, unit):
    true = random_poses(12, seed)
    predicted = true.copy()
    predicted[:, :3, 3] /= unit
    judged = NetworkMotion.judged(predicted, steps(true))
    assert judged.factor == pytest.approx(unit)
    motion = judged.between(3, 4)
    expected = relative_pose(true[3], true[4])
    assert np.allclose(motion.similarity.translation, expected[:3, 3])
    assert np.allclose(motion.similarity.rotation, expected[:3, :3])


def test_errors_are_those_that_measured_motions_show():
    true = random_poses(400, 1)
    rng = np.random.default_rng(0)
    seen = [
        (i, j, Similarity(1.0, motion.rotation, motion.translation + 0.2 * rng.normal(size=3)))
        for i, j, motion in steps(true)
    ]
    judged = NetworkMotion.judged(true, seen)
    assert judged.translation == pytest.approx(0.2, rel=0.15)
    assert judged.rotation < 0.01


def test_a_network_that_has_understood_nothing_gets_no_lengths_and_large_errors():
    judged = NetworkMotion.judged(random_poses(200, 2), steps(random_poses(200, 3)))
    assert judged.factor < 0.2
    assert judged.rotation > 0.1


def test_an_unjudged_network_is_used_with_care():
    predicted = random_poses(4, 0)
    judged = NetworkMotion.judged(predicted, [])
    assert judged.factor == 1.0
    assert judged.rotation == pytest.approx(0.2)
