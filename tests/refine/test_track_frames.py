import cv2
import numpy as np
import pytest

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.refine.mapping.structure import SparseMap
from mem3r_plugin.refine.track_frames import track_frames

CAMERA = Intrinsics.centred(400.0, 320, 240)
DEPTH = 5.0  # of a wall straight ahead
STEP = 4  # pixels that it moves from frame to frame
FRAMES = 12


def pose(frame):
    return pose_matrix(np.eye(3), [frame * STEP * DEPTH / CAMERA.fx, 0.0, 0.0])


@pytest.fixture(scope="module")
def pictures():
    noise = np.random.default_rng(0).integers(0, 255, (60, 100), np.uint8)
    wall = cv2.resize(noise, (800, 480), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wall[120:360, left : left + 320]) for left in range(0, 200, STEP)]


def wall_map(frames):
    """A map of these frames, whose points lie on a grid of pixels of each."""
    points, sightings = [], {}
    x, y = np.meshgrid(np.arange(20.5, 300, 20), np.arange(20.5, 220, 20))
    pixels = np.stack([x.ravel(), y.ravel()], axis=-1)
    for rank, frame in enumerate(frames):
        local = CAMERA.unproject(pixels, np.full(len(pixels), DEPTH))
        points.append(local + pose(frame)[:3, 3])
        sightings[frame] = (np.arange(len(pixels)) + rank * len(pixels), pixels)
    poses = {frame: pose(frame) for frame in frames}
    return SparseMap(CAMERA, poses, np.concatenate(points), sightings, 0.1, 2.0)


@pytest.mark.parametrize("frames", [[0, 8], [3], [11], [2, 3]])
def test_frames_around_mapped_ones_are_posed_by_their_points(pictures, frames):
    poses = track_frames(wall_map(frames), FRAMES, lambda index: pictures[index])
    assert sorted(poses) == [index for index in range(FRAMES) if index not in frames]
    for index, found in poses.items():
        assert np.allclose(found.pose[:3, 3], pose(index)[:3, 3], atol=0.02)
        assert np.allclose(found.pose[:3, :3], np.eye(3), atol=0.005)


def test_a_picture_of_something_else_gets_no_pose(pictures):
    other = np.random.default_rng(1).integers(0, 255, (240, 320), np.uint8)

    def read(index):
        return other if index == 4 else pictures[index]

    poses = track_frames(wall_map([0, 8]), FRAMES, read)
    assert sorted(poses) == [1, 2, 3, 5, 6, 7, 9, 10, 11]
