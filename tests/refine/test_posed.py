import numpy as np
import pytest

from mem3r_plugin.errors import ScanError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.refine.posed import PosedFrames, Support, gather_sightings
from tests.refine.random_poses import random_poses


@pytest.fixture
def posed():
    rng = np.random.default_rng(1)
    sightings = {
        frame: (rng.permutation(9)[:size], rng.uniform(0, 400, (size, 2)))
        for frame, size in ((0, 4), (2, 5))
    }
    poses = random_poses(3)
    points = poses[0, :3, 3] + 10 * poses[0, :3, 2] + rng.normal(size=(9, 3))
    camera = Intrinsics(500, 510, 320, 240, 640, 480)
    support: tuple[Support, ...] = ("mapped", "tracked", "mapped")
    return PosedFrames(camera, poses, support, points, *gather_sightings(sightings, [0, 2]))


def test_a_file_keeps_everything(posed, tmp_path):
    posed.save(tmp_path / "poses.npz")
    loaded = PosedFrames.load(tmp_path / "poses.npz")
    assert loaded.camera == posed.camera
    assert loaded.support == posed.support
    for name in ("camera_to_world", "points", "frames", "rows", "pixels"):
        assert np.array_equal(getattr(loaded, name), getattr(posed, name))


def test_a_torn_file_is_named(posed, tmp_path):
    file = tmp_path / "poses.npz"
    posed.save(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ScanError, match=r"poses\.npz is damaged"):
        PosedFrames.load(file)


def test_a_frame_sees_its_own_points(posed):
    pixels, depth = posed.seen(0)
    assert len(pixels) == 4
    expected = transform_points(invert_pose(posed.camera_to_world[0]), posed.points)[posed.rows[:4]]
    assert np.allclose(depth, expected[:, 2])
    assert len(posed.seen(1)[1]) == 0


def test_scaling_makes_the_first_camera_the_world_and_keeps_what_is_seen(posed):
    scaled = posed.scaled(3.0)
    assert np.array_equal(scaled.camera_to_world[0], np.eye(4))
    assert np.allclose(scaled.seen(0)[1], 3 * posed.seen(0)[1])
    assert np.allclose(scaled.seen(2)[1], 3 * posed.seen(2)[1])
