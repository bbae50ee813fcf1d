import numpy as np
import pytest
from scipy.spatial import cKDTree

from mem3r_plugin.evaluation import trajectory_errors
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix, transform_points
from mem3r_plugin.refine.graph.edges import MatchedPair
from mem3r_plugin.refine.graph.keyframe_graph import place_keyframes
from tests.refine.random_poses import random_poses

CAMERA = Intrinsics.centred(300.0, 480, 360)
LAP, COUNT = 48, 60


class Ring:
    """Cameras walking round inside a drum of points, and a quarter of the way once more."""

    def __init__(self, seed=0, noise=0.7):
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        angle = self.rng.uniform(0, 2 * np.pi, 6000)
        height = self.rng.uniform(-2, 2, 6000)
        self.points = np.stack([4 * np.sin(angle), height, 4 * np.cos(angle)], axis=1)
        self.poses = np.stack([self.pose(2 * np.pi * i / LAP) for i in range(COUNT)])
        self.seen = [self.see(i) for i in range(COUNT)]
        self.looked_up = [
            (
                cKDTree([pixel for pixel, _ in there.values()]),
                np.array([z for _, z in there.values()]),
            )
            for there in self.seen
        ]
        # Depth is wrong smoothly over the picture and in its unit, as a network's is.
        self.units = np.exp(0.1 * np.sin(np.arange(COUNT)))

    def pose(self, angle):
        """On a circle, looking where it goes."""
        c, s = np.cos(angle), np.sin(angle)
        rotation = np.array([[-s, 0, c], [0, 1, 0], [-c, 0, -s]])
        return pose_matrix(rotation, [2 * s, 0, 2 * c])

    def see(self, index):
        local = transform_points(invert_pose(self.poses[index]), self.points)
        pixels = CAMERA.project(local)
        inside = (local[:, 2] > 0.2) & CAMERA.contains(pixels)
        rows = np.flatnonzero(inside)
        return dict(zip(rows.tolist(), zip(pixels[rows], local[rows, 2], strict=True), strict=True))

    def pair(self, first, second, seen_as=None):
        """Noisy matches of two frames; `seen_as` mistakes the second's picture for another's."""
        theirs = self.seen[second if seen_as is None else seen_as]
        common = sorted(self.seen[first].keys() & theirs.keys())[:60]
        pixels = (
            np.array([there[row][0] for row in common]) for there in (self.seen[first], theirs)
        )
        return MatchedPair(
            first, second, *(at + self.noise * self.rng.normal(size=at.shape) for at in pixels)
        )

    def read_depth(self, index, pixels):
        places, depth = self.looked_up[index]
        ripple = 1 + 0.05 * np.sin(pixels[:, 0] / 90 + index)
        return self.units[index] * ripple * depth[places.query(pixels)[1]]

    def error(self, graph):
        poses = np.stack([graph.camera_to_world[index] for index in range(COUNT)])
        return trajectory_errors(poses, self.poses).ate_rmse


@pytest.fixture(scope="module")
def ring():
    return Ring()


@pytest.fixture(scope="module")
def pairs(ring):
    near = [ring.pair(i, i + gap) for gap in (1, 2) for i in range(COUNT - gap)]
    return near, [ring.pair(i, i + LAP) for i in range(0, COUNT - LAP)]


def place(ring, matches, with_loops=True):
    nonsense = random_poses(COUNT, 4)
    return place_keyframes(CAMERA, range(COUNT), matches, nonsense, ring.read_depth, with_loops)


@pytest.fixture(scope="module")
def closed(ring, pairs):
    near, loops = pairs
    return place(ring, near + loops)


def test_loops_close_a_ring_whatever_the_network_says_of_the_path(ring, pairs, closed):
    near, loops = pairs
    assert closed.loops == len(loops)
    assert len(closed.contradicted) <= 1
    assert ring.error(closed) < ring.error(place(ring, near + loops, False)) / 2


def test_false_loops_are_named(ring, pairs, closed):
    near, loops = pairs
    false = [ring.pair(i, i + 20, seen_as=i + 2) for i in range(0, 12, 3)]
    found = place(ring, near + loops + false)
    assert {(pair.first, pair.second) for pair in false} <= found.contradicted
    assert len(found.contradicted) <= len(false) + 1
    assert ring.error(found) < 1.5 * ring.error(closed)


def test_keyframes_without_matches_follow_the_network(ring):
    alone = place_keyframes(CAMERA, range(COUNT), [], ring.poses, ring.read_depth)
    assert ring.error(alone) < 1e-3
    assert alone.loops == 0
