from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.evaluation import trajectory_errors
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import pose_matrix, rotation_from_quaternion


def random_poses(seed: int, count: int = 12) -> FloatArray:
    rng = np.random.default_rng(seed)
    rotations = rotation_from_quaternion(rng.normal(size=(count, 4)))
    return pose_matrix(rotations, rng.normal(size=(count, 3)))


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.floats(0.01, 100))
def test_world_and_unit_do_not_matter(seed: int, scale: float) -> None:
    true = random_poses(seed)
    rng = np.random.default_rng(seed)
    moved = Similarity(scale, rotation_from_quaternion(rng.normal(size=4)), rng.normal(size=3))
    errors = trajectory_errors(moved.poses(true), true)
    assert errors.ate_rmse < 1e-9
    assert errors.rpe_translation < 1e-9
    assert errors.rpe_rotation < 1e-6
    assert errors.scale == pytest.approx(1 / scale)
    assert errors.frames == 12


@given(seeds, st.floats(1e-6, 3.1))
def test_a_camera_that_rolls_on_its_way(seed: int, angle: float) -> None:
    true = random_poses(seed)
    true[:, :3, :3] = np.eye(3)
    half_turns = np.arange(12) * angle / 2
    nothing = np.zeros(12)
    estimated = true.copy()
    estimated[:, :3, :3] = rotation_from_quaternion(
        np.stack([np.cos(half_turns), nothing, nothing, np.sin(half_turns)], axis=-1)
    )
    errors = trajectory_errors(estimated, true)
    assert errors.ate_rmse < 1e-9
    assert errors.rpe_rotation == pytest.approx(np.degrees(angle))


def test_known_errors() -> None:
    """A square of side 2 whose estimate lifts one diagonal and drops the other by 0.1."""
    centres = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], dtype=float)
    true = pose_matrix(np.broadcast_to(np.eye(3), (4, 3, 3)), centres)
    estimated = true.copy()
    estimated[:, 2, 3] = [0.1, -0.1, 0.1, -0.1]
    errors = trajectory_errors(estimated, true)
    assert errors.path_length == 6
    assert errors.rpe_rotation < 1e-6
    # The lift is orthogonal to every rigid motion of the square; only the scale shrinks a little.
    scale = 8 / (8 + 0.04)
    assert errors.scale == pytest.approx(scale)
    rest = np.sqrt(2 * (1 - scale) ** 2 + (0.1 * scale) ** 2)
    assert errors.ate_rmse == pytest.approx(rest)
    step = np.sqrt((2 * (1 - scale)) ** 2 + (0.2 * scale) ** 2)
    assert errors.rpe_translation == pytest.approx(step)


def test_standing_still_costs_the_spread_of_the_path() -> None:
    true = random_poses(5)
    still = np.broadcast_to(np.eye(4), true.shape)
    errors = trajectory_errors(still, true)
    centres = true[:, :3, 3]
    spread = np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert errors.ate_rmse == pytest.approx(spread)
    assert errors.rpe_translation == pytest.approx(np.sqrt((steps**2).mean()))


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="cannot compare 3 estimated with 4 true"):
        trajectory_errors(random_poses(0, 3), random_poses(0, 4))
    with pytest.raises(ValueError, match="cannot compare"):
        trajectory_errors(random_poses(0, 1), random_poses(0, 1))
