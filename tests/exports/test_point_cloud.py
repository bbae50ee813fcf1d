from __future__ import annotations

import numpy as np
import pytest

from mem3r_plugin.exports import (
    PointCloudConfig,
    colour_points,
    confident_points,
    sample_colours,
)
from mem3r_plugin.exports.point_cloud import least_confidence
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.scan import Scan
from tests.room_scan import distance_to_walls, make_room_scan, room_colours


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"), size=(180, 180))


@pytest.fixture(scope="module")
def zoomed_room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("zoomed"), size=(180, 180), zoom=1.1)


@pytest.mark.parametrize("name", ["room", "zoomed_room"])
def test_points_lie_where_their_frame_saw_them(name: str, request: pytest.FixtureRequest) -> None:
    scan: Scan = request.getfixturevalue(name)
    cloud = confident_points(scan)
    assert distance_to_walls(cloud.positions).max() < 2e-3
    for index, frame in enumerate(scan.frames):
        rows = cloud.frames == index
        in_camera = transform_points(invert_pose(frame.camera_to_world), cloud.positions[rows])
        seen = scan.frame_camera(index).project(in_camera)
        np.testing.assert_allclose(seen, cloud.pixels[rows], atol=1e-9)


def test_what_lies_beyond_the_border_has_its_colour() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    pixels = np.array([[-0.02, 0.5], [3.2, 0.5], [3.0, 2.0], [1.5, -0.3]])
    expected = image[[0, 0, 1, 0], [0, 2, 2, 1]]
    np.testing.assert_array_equal(sample_colours(image, pixels), expected)


def test_colours_are_those_of_the_pictures(room: Scan) -> None:
    cloud = confident_points(room)
    painted = room_colours(cloud.positions).astype(int)
    assert np.abs(painted - colour_points(room, cloud)).mean() < 3


@pytest.mark.parametrize("discard", [0.0, 0.3, 0.9])
def test_the_least_confident_pixels_are_discarded(room: Scan, discard: float) -> None:
    config = PointCloudConfig(discard=discard, pixel_stride=1, voxel_size=1e-6)
    cloud = confident_points(room, config)
    pixels = sum(int((room.depth(i) > 0).sum()) for i in range(len(room)))
    kept = len(cloud) / pixels
    ties = 0.12  # confidence is stored in 255 steps, and all of one step go together
    assert 1 - discard - ties <= kept <= 1 - discard + 0.01
    for index in range(len(room)):
        columns, rows = np.floor(room.transform.pixels(cloud.pixels[cloud.frames == index])).T
        confidence = room.confidence(index)[rows.astype(int), columns.astype(int)]
        assert (confidence >= cloud.min_confidence).all()


def test_voxels_hold_one_point_each(room: Scan) -> None:
    cloud = confident_points(room, PointCloudConfig(voxel_size=0.03))
    voxels = np.floor(cloud.positions / cloud.voxel_size)
    assert len(np.unique(voxels, axis=0)) == len(cloud)


def test_voxels_grow_until_the_cloud_is_small_enough(room: Scan) -> None:
    fine = confident_points(room)
    coarse = confident_points(room, PointCloudConfig(max_points=200))
    assert coarse.voxel_size > fine.voxel_size
    assert 50 < len(coarse) <= 200


def test_any_first_part_is_a_fair_sample(room: Scan) -> None:
    cloud = confident_points(room)
    some = cloud.positions[: len(cloud) // 10].mean(axis=0)
    np.testing.assert_allclose(some, cloud.positions.mean(axis=0), atol=0.15)


def test_keyframes_are_spread_over_the_scan(room: Scan) -> None:
    cloud = confident_points(room, PointCloudConfig(keyframes=3))
    assert set(np.unique(cloud.frames)) == {0, 2, 5}


def test_the_cloud_is_reproducible(room: Scan) -> None:
    first, second = confident_points(room), confident_points(room)
    np.testing.assert_array_equal(first.positions, second.positions)


@pytest.mark.parametrize(
    ("confidence", "least"),
    [([1, 1, 1, 2, 3], 2), ([5, 5, 5], 5), ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 4), ([7], 7)],
)
def test_equals_are_discarded_together(confidence: list[float], least: float) -> None:
    assert least_confidence(np.array(confidence, np.float32), 0.3) == least
