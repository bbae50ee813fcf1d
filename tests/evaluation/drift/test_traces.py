from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mem3r_plugin.evaluation import load_sequence
from mem3r_plugin.evaluation.drift.courses import Course, RealPlan, WorldPlan, plan_courses
from mem3r_plugin.evaluation.drift.traces import (
    Trace,
    chamfer,
    errors_at,
    lengths_of,
    run_over,
    stand_still,
)
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.pose import rotation_from_quaternion
from mem3r_plugin.model import load_rule
from mem3r_plugin.model.weights import random_network
from mem3r_plugin.stream.front_end import FrontEnd
from mem3r_plugin.stream.preprocess import Preprocessor
from tests.evaluation.room_sequence import SCALE, write_room_sequence
from tests.model.networks import MEM3R
from tests.room_scan import room_depth, room_pose

SIZE = 64
FRAMES = 12
ELSEWHERE = Similarity(
    0.25, rotation_from_quaternion([0.8, 0.1, -0.5, 0.3]), np.array([1.0, 2.0, 3.0])
)


@pytest.fixture(scope="module")
def world() -> Course:
    return WorldPlan("room", 0, FRAMES, 4).open(SIZE)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("room") / "truth"
    write_room_sequence(folder)
    return RealPlan(load_sequence(folder), 100).open(SIZE)


def front_end(weights_of: torch.nn.Module | None = None) -> FrontEnd:
    network = random_network(MEM3R) if weights_of is None else weights_of
    return FrontEnd(network, load_rule("filt3r"), Preprocessor(SIZE))  # type: ignore[arg-type]


def beginning(course: Course, frames: int) -> Course:
    images = list(course.images())[:frames]
    assert course.depth is not None
    return Course(
        course.name,
        lambda: iter(images),
        course.camera_to_world[:frames],
        course.depth[:frames],
        course.camera,
    )


@pytest.mark.parametrize("which", ["world", "room"])
def test_the_truth_in_another_world_and_unit_has_no_errors(
    which: str, request: pytest.FixtureRequest
) -> None:
    course: Course = request.getfixturevalue(which)
    assert course.depth is not None
    poses = ELSEWHERE.poses(course.camera_to_world)
    trace = Trace(poses, (ELSEWHERE.scale * course.depth).astype(np.float32), course.camera)
    for frames in (3, len(course)):
        errors = errors_at(course, trace, frames)
        assert errors["ate"] == pytest.approx(0, abs=1e-5)
        assert errors["rpe_rotation"] == pytest.approx(0, abs=1e-4)
        assert errors["abs_rel"] == pytest.approx(0, abs=1e-5)
        assert errors["delta_125"] == 1
    path = np.linalg.norm(np.diff(course.camera_to_world[:, :3, 3], axis=0), axis=1).sum()
    assert errors["path"] == pytest.approx(path)
    assert chamfer(course, trace) == pytest.approx(0, abs=1e-3)


def test_a_wrong_cloud_is_as_far_away_as_it_is(room: Course) -> None:
    """Half of the frames bent outwards: neither a similarity nor ICP can undo that."""
    assert room.depth is not None
    depth = room.depth.copy()
    depth[::2] *= 1.3
    bent = chamfer(room, Trace(room.camera_to_world, depth, room.camera))
    assert bent is not None and bent > 0.05 * SCALE


def test_a_real_sequence_is_brought_to_the_networks_pictures(room: Course) -> None:
    assert (room.camera.width, room.camera.height) == (64, 48)
    assert room.depth is not None and room.depth.shape == (6, 16 * 12)
    expected = SCALE * room_depth(room.camera, room_pose(2))[2::4, 2::4]
    compared = room.depth[2].reshape(expected.shape)
    known = compared > 0
    assert 0.9 < known.mean() < 1
    assert np.median(np.abs(compared - expected)[known] / expected[known]) < 0.01


def test_the_beginning_of_a_run_is_a_shorter_run(world: Course) -> None:
    whole, short = run_over(world, front_end()), run_over(beginning(world, 5), front_end())
    np.testing.assert_array_equal(whole.camera_to_world[:5], short.camera_to_world)
    assert errors_at(world, whole, 5) == errors_at(beginning(world, 5), short, 5)
    assert errors_at(world, whole, 5) != errors_at(world, whole, FRAMES)


def test_a_network_without_finite_answers_has_no_errors(world: Course) -> None:
    network = random_network(MEM3R)
    for parameter in network.heads.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    trace = run_over(world, front_end(network))
    assert np.isnan(trace.camera_to_world).all()
    assert set(errors_at(world, trace, FRAMES).values()) == {None}
    assert chamfer(world, trace) is None


def test_standing_still_is_as_wrong_as_the_path_is_long(world: Course) -> None:
    trace = stand_still(world, np.ones((30, 40), np.float32))
    centres = world.camera_to_world[:, :3, 3]
    spread = np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert errors_at(world, trace, FRAMES)["ate"] == pytest.approx(spread)


def test_frames_without_a_true_pose_are_not_compared(world: Course) -> None:
    poses = world.camera_to_world.copy()
    poses[4] = np.nan
    gap = replace_poses(world, poses)
    trace = Trace(world.camera_to_world, world.depth, world.camera)  # type: ignore[arg-type]
    assert errors_at(gap, trace, FRAMES)["ate"] == pytest.approx(0, abs=1e-6)
    assert chamfer(gap, trace) == pytest.approx(0, abs=1e-3)


def replace_poses(course: Course, poses: np.ndarray) -> Course:
    return Course(course.name, course.images, poses, course.depth, course.camera)


def test_lengths_end_with_the_course() -> None:
    assert lengths_of(30, (50, 100)) == [30]
    assert lengths_of(70, (100, 50)) == [50, 70]
    assert lengths_of(100, (50, 100)) == [50, 100]


def test_worlds_differ_and_are_the_same_each_time(world: Course, tmp_path: Path) -> None:
    again = WorldPlan("room", 0, FRAMES, 4).open(SIZE)
    assert again.digest() == world.digest()
    other = replace(WorldPlan("room", 0, FRAMES, 4), number=1).open(SIZE)
    assert other.digest() != world.digest()
    write_room_sequence(tmp_path / "real")
    plans = plan_courses(2, FRAMES, 4, [tmp_path])
    assert [plan.name for plan in plans][:3] == ["room-0", "room-1", "corridor-0"]
    assert [plan.name for plan in plans][-1] == "real"
    assert len({plan.group for plan in plans}) == 5
