"""Overlap predicted from poses and depth, against what the known room really shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.refine.keyframes.overlap import PredictedView, predicted_overlap
from tests.room_scan import make_room_scan


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return make_room_scan(tmp_path_factory.mktemp("room"), frames=8)


def test_overlap_is_symmetric_and_whole_with_itself(scan):
    overlap = predicted_overlap(scan, list(range(8)))
    assert overlap.shape == (8, 8)
    assert (overlap == overlap.T).all()
    assert (np.diag(overlap) == 1).all()
    assert ((overlap >= 0) & (overlap <= 1)).all()


def test_overlap_falls_with_distance_in_time(scan):
    overlap = predicted_overlap(scan, list(range(8)))
    assert overlap[0, 1] > overlap[0, 3] > overlap[0, 7]


def test_only_the_asked_frames_are_compared(scan):
    every = predicted_overlap(scan, list(range(8)))
    assert np.array_equal(predicted_overlap(scan, [1, 4, 6]), every[np.ix_([1, 4, 6], [1, 4, 6])])


@given(st.data())
def test_a_view_finds_its_own_pixels_again(scan, data):
    index = data.draw(st.integers(0, 7))
    view = PredictedView.of(scan, index, 80, 60)
    assert view.depth.shape == (60, 80)
    pixels = data.draw(
        st.lists(st.tuples(st.floats(0, 79.99), st.floats(0, 59.99)), min_size=1).map(np.array)
    )
    points = view.unproject(pixels)
    known = np.isfinite(points).all(axis=1)
    assert (known == (view.depth[tuple(np.floor(pixels).astype(int).T[::-1])] > 0)).all()
    np.testing.assert_allclose(view.project(points)[known], pixels[known], atol=1e-9)


def test_what_lies_behind_a_camera_is_not_seen_by_it(scan):
    view = PredictedView.of(scan, 0, 80, 60)
    behind = view.camera_to_world[:3, 3] - view.camera_to_world[:3, 2]
    assert np.isnan(view.project(behind[None])).all()
