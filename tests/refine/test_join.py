import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.refine.join import join_maps
from mem3r_plugin.refine.mapping import SparseMap

from .test_carry import random_poses

CAMERA = Intrinsics.centred(500, 640, 480)


def piece(frames, poses, points, move):
    rows = np.arange(len(points))
    return SparseMap(
        CAMERA,
        {frame: move.poses(poses[frame]) for frame in frames},
        move.points(points),
        {frame: (rows, np.zeros((len(points), 2))) for frame in frames},
        0.5,
        3.0,
    )


@given(st.integers(0, 1000), st.floats(0.2, 5), st.integers(10, 14))
def test_pieces_come_back_to_where_they_were_cut(seed, scale, start):
    poses, points = random_poses(20, seed), np.random.default_rng(seed).normal(size=(30, 3))
    turn = random_poses(1, seed + 1)[0]
    move = Similarity(scale, turn[:3, :3], turn[:3, 3])
    still = Similarity(1.0, np.eye(3), np.zeros(3))
    first = piece(range(12), poses, points, still)
    second = piece(range(start, 20), poses, points + 5, move)
    whole = join_maps([first, second], poses)
    assert np.array_equal(sorted(whole.poses), sorted({*range(12), *range(start, 20)}))
    for frame, pose in whole.poses.items():
        assert np.allclose(pose, poses[frame], atol=1e-6)
    assert np.allclose(whole.points, np.concatenate([points, points + 5]), atol=1e-6)
    rows, _ = whole.sightings[19]
    assert np.allclose(whole.points[rows], points + 5, atol=1e-6)
