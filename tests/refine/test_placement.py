import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.pose import invert_pose, relative_pose, rotation_angle, transform_points
from mem3r_plugin.refine.graph.edges import MatchedPair
from mem3r_plugin.refine.mapping.structure import SparseMap
from mem3r_plugin.refine.placement import place_frames
from mem3r_plugin.refine.track_frames import TrackedFrame
from tests.refine.random_poses import random_poses

CAMERA = Intrinsics.centred(500, 640, 480)
STILL = Similarity(1.0, np.eye(3), np.zeros(3))


class Scene:
    """Random cameras that all see the same points; the network's depth is true up to its unit."""

    def __init__(self, count, seed, unit=1.0):
        self.poses = random_poses(count, seed)
        self.poses[:, :3, 3] *= 0.2
        self.unit = unit
        rng = np.random.default_rng(seed)
        self.points = rng.uniform([-3, -3, 6], [3, 3, 12], (60, 3))

    def local(self, frame):
        return transform_points(invert_pose(self.poses[frame]), self.points)

    def pixels(self, frame):
        return CAMERA.project(self.local(frame))

    def read_depth(self, frame, pixels):
        distance = np.linalg.norm(pixels[:, None] - self.pixels(frame)[None], axis=2)
        return self.local(frame)[distance.argmin(axis=1), 2] / self.unit

    def predicted(self):
        poses = self.poses.copy()
        poses[:, :3, 3] /= self.unit
        return poses

    def piece(self, frames, move=STILL):
        """A map of these frames, in a world of its own."""
        rows = np.arange(len(self.points))
        return SparseMap(
            camera=CAMERA,
            poses={frame: move.poses(self.poses[frame]) for frame in frames},
            points=move.points(self.points),
            sightings={frame: (rows, self.pixels(frame)) for frame in frames},
            reprojection_error=0.5,
            track_length=3.0,
        )

    def pair(self, first, second):
        return MatchedPair(first, second, self.pixels(first), self.pixels(second))

    def place(self, pieces, predicted=None, pairs=()):
        predicted = self.predicted() if predicted is None else predicted
        tracked: list[dict[int, TrackedFrame]] = [{} for _ in pieces]
        return place_frames(pieces, tracked, predicted, pairs, self.read_depth)


def some_move(seed, scale):
    turn = random_poses(1, seed)[0]
    return Similarity(scale, turn[:3, :3], turn[:3, 3])


def nowhere_near(poses, seed=9):
    """What a network says that has understood nothing."""
    return random_poses(len(poses), seed)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 5), st.floats(0.2, 5), st.integers(10, 14))
def test_pieces_come_back_to_where_they_were_cut(seed, scale, unit, start):
    scene = Scene(20, seed, unit)
    pieces = [scene.piece(range(12)), scene.piece(range(start, 20), some_move(seed + 1, scale))]
    placed = scene.place(pieces)
    assert np.allclose(placed.camera_to_world, scene.poses, atol=1e-4)
    assert np.allclose(placed.points, np.tile(scene.points, (2, 1)), atol=1e-3)
    between = [frame for frame in range(20) if 12 <= frame < start]
    assert [placed.support[frame] for frame in between] == ["carried"] * len(between)
    rows, pixels = placed.sightings[19]
    seen = transform_points(invert_pose(placed.camera_to_world[19]), placed.points[rows])
    assert np.allclose(CAMERA.project(seen), pixels, atol=0.1)


def test_a_frame_that_two_pieces_share_ties_them_whatever_the_network_says():
    scene = Scene(20, 3)
    pieces = [scene.piece(range(12)), scene.piece(range(10, 20), some_move(1, 2.0))]
    placed = scene.place(pieces, nowhere_near(scene.poses))
    assert np.allclose(placed.camera_to_world, scene.poses, atol=0.02)
    assert placed.guessed == ()


def test_matches_tie_what_the_mapper_left_out():
    scene = Scene(16, 4)
    pairs = [scene.pair(5, 12), scene.pair(11, 12), scene.pair(12, 13)]
    placed = scene.place([scene.piece(range(12))], nowhere_near(scene.poses), pairs)
    for frame in (12, 13):
        assert placed.support[frame] == "tracked"
        assert np.allclose(placed.camera_to_world[frame], scene.poses[frame], atol=0.02)
    assert placed.support[14] == "carried"


def test_a_piece_that_only_the_network_holds_is_told():
    scene = Scene(20, 5)
    pieces = [scene.piece(range(10)), scene.piece(range(12, 20), some_move(2, 0.5))]
    assert scene.place(pieces).guessed == (1,)


def test_frames_follow_a_network_that_is_right():
    scene = Scene(15, 6, unit=2.5)
    placed = scene.place([scene.piece([*range(6), *range(9, 12)])])
    assert np.allclose(placed.camera_to_world, scene.poses, atol=1e-3)


def test_frames_are_spread_evenly_where_the_network_is_wrong():
    scene = Scene(31, 7)
    scene.poses[:] = np.eye(4)
    scene.poses[:, 0, 3] = 0.1 * np.arange(31)
    frames = [frame for frame in range(31) if frame not in (14, 15, 16)]
    placed = scene.place([scene.piece(frames)], nowhere_near(scene.poses))
    assert placed.network.factor < 0.3
    gap = placed.camera_to_world[13:18]
    steps = np.linalg.norm(np.diff(gap[:, :3, 3], axis=0), axis=1)
    assert steps.max() < 3 * 0.1
    assert rotation_angle(relative_pose(gap[0], gap)[:, :3, :3]).max() < 1.5
