from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mem3r_plugin.evaluation import load_sequence
from mem3r_plugin.evaluation.drift.courses import (
    DEPTH_EVERY,
    GRID,
    STRIDE,
    Course,
    RealPlan,
    WorldPlan,
    plan_courses,
)
from mem3r_plugin.evaluation.drift.traces import (
    Trace,
    chamfer,
    errors_at,
    lengths_of,
    run_over,
    stand_still,
)
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.pose import relative_pose, rotation_from_quaternion
from mem3r_plugin.model import ReconstructionNetwork, load_rule
from mem3r_plugin.model.weights import random_network
from mem3r_plugin.stream.front_end import FrontEnd
from mem3r_plugin.stream.passage import NetworkPassage
from mem3r_plugin.stream.preprocess import Preprocessor
from tests.evaluation.room_sequence import SCALE, write_room_sequence
from tests.model.networks import MEM3R
from tests.room_scan import room_depth, room_pose

SIZE = 64
MINI = replace(MEM3R, picture_size=SIZE)
FRAMES = 12
ELSEWHERE = Similarity(
    0.25, rotation_from_quaternion([0.8, 0.1, -0.5, 0.3]), np.array([1.0, 2.0, 3.0])
)


@pytest.fixture(scope="module")
def world() -> Course:
    return WorldPlan("room", 0, FRAMES, 4).open(Preprocessor(SIZE))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("room") / "truth"
    write_room_sequence(folder)
    return RealPlan(load_sequence(folder), 100).open(Preprocessor(SIZE))


def run(course: Course, network: ReconstructionNetwork) -> Trace:
    (trace,) = run_over([course], network, load_rule("filt3r"))
    return trace


def beginning(course: Course, frames: int) -> Course:
    images = list(course.images())[:frames]
    assert course.points is not None
    return Course(
        course.name,
        lambda: iter(images),
        course.camera_to_world[:frames],
        course.points[: -(-frames // DEPTH_EVERY)],
        course.camera,
    )


@pytest.mark.parametrize("which", ["world", "room"])
def test_the_truth_in_another_world_and_unit_has_no_errors(
    which: str, request: pytest.FixtureRequest
) -> None:
    course: Course = request.getfixturevalue(which)
    assert course.points is not None
    poses = ELSEWHERE.poses(course.camera_to_world)
    trace = Trace(poses, (ELSEWHERE.scale * course.points).astype(np.float32))
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
    assert room.points is not None
    points = room.points.copy()
    points[::2] *= 1.3
    bent = chamfer(room, Trace(room.camera_to_world, points))
    assert bent is not None and bent > 0.05 * SCALE


def test_a_real_sequence_is_brought_to_the_networks_pictures(room: Course) -> None:
    assert (room.camera.width, room.camera.height) == (64, 48)
    assert room.points is not None and room.points.shape == (2, 16 * 12, 3)
    truth = SCALE * room_depth(room.camera, room_pose(DEPTH_EVERY))[2::4, 2::4]
    compared = room.points[1, :, 2].reshape(truth.shape)
    known = np.isfinite(compared)
    assert 0.9 < known.mean() < 1
    assert np.median(np.abs(compared - truth)[known] / truth[known]) < 0.01
    projected = room.camera.project(room.points[1][known.ravel()].astype(float))
    np.testing.assert_allclose(projected[0], [2.5 + STRIDE, 2.5], atol=1e-4)


@pytest.mark.parametrize("which", ["world", "room"])
def test_a_run_is_what_the_front_end_gives(which: str, request: pytest.FixtureRequest) -> None:
    course: Course = request.getfixturevalue(which)
    network = random_network(MINI)
    trace = run(course, network)
    front_end = FrontEnd(NetworkPassage(network, load_rule("filt3r")), Preprocessor(SIZE))
    estimates = [front_end.step(image) for image in course.images()]
    poses = relative_pose(trace.camera_to_world[0], trace.camera_to_world)
    expected = np.stack([estimate.camera_to_world for estimate in estimates])
    np.testing.assert_allclose(poses, expected, atol=1e-4)
    for points, estimate in zip(trace.points, estimates[::DEPTH_EVERY], strict=True):
        depth = np.nan_to_num(points[:, 2])
        np.testing.assert_allclose(depth, estimate.depth[GRID].ravel(), atol=1e-5)


def test_courses_side_by_side_are_like_single_ones(world: Course) -> None:
    other = WorldPlan("street", 0, FRAMES, 4).open(Preprocessor(SIZE))
    network, rule = random_network(MINI), load_rule("ttsa3r")
    together = run_over([world, other], network, rule)
    for course, trace in zip((world, other), together, strict=True):
        (alone,) = run_over([course], network, rule)
        np.testing.assert_allclose(trace.camera_to_world, alone.camera_to_world, atol=1e-4)
        np.testing.assert_allclose(trace.points, alone.points, atol=1e-4)


def test_the_beginning_of_a_run_is_a_shorter_run(world: Course) -> None:
    network = random_network(MINI)
    whole, short = run(world, network), run(beginning(world, 5), network)
    np.testing.assert_allclose(whole.camera_to_world[:5], short.camera_to_world, atol=1e-5)
    shorter = errors_at(beginning(world, 5), short, 5)
    assert errors_at(world, whole, 5)["ate"] == pytest.approx(shorter["ate"], rel=1e-3)
    assert errors_at(world, whole, FRAMES)["ate"] != pytest.approx(shorter["ate"], rel=1e-3)


def test_a_network_without_finite_answers_has_no_errors(world: Course) -> None:
    network = random_network(MINI)
    for parameter in network.heads.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    trace = run(world, network)
    assert np.isnan(trace.camera_to_world[:, :3]).all()
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
    assert world.points is not None
    gap = Course(world.name, world.images, poses, world.points, world.camera)
    trace = Trace(world.camera_to_world, world.points)
    assert errors_at(gap, trace, FRAMES)["ate"] == pytest.approx(0, abs=1e-6)
    assert chamfer(gap, trace) == pytest.approx(0, abs=1e-3)


def test_lengths_end_with_the_course() -> None:
    assert lengths_of(30, (50, 100)) == [30]
    assert lengths_of(70, (100, 50)) == [50, 70]
    assert lengths_of(100, (50, 100)) == [50, 100]


def test_worlds_differ_and_are_the_same_each_time(world: Course, tmp_path: Path) -> None:
    again = WorldPlan("room", 0, FRAMES, 4).open(Preprocessor(SIZE))
    assert again.digest() == world.digest()
    other = replace(WorldPlan("room", 0, FRAMES, 4), number=1).open(Preprocessor(SIZE))
    assert other.digest() != world.digest()
    write_room_sequence(tmp_path / "real")
    worlds, (real,) = plan_courses(2, FRAMES, 4, [tmp_path])
    assert [plan.name for plan in worlds][:3] == ["room-0", "room-1", "corridor-0"]
    assert real.name == "real"
    assert len({plan.group for plan in worlds}) == 4
