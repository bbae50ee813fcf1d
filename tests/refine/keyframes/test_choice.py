"""Keyframes follow motion and overlap, whichever of network and picture knows them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.keyframes.choice import (
    KeyframeConfig,
    KeyframeSelector,
    reduced,
    sharpness,
)
from mem3r_plugin.refine.keyframes.overlap import PredictedView

SIZE = (320, 240)
CAMERA = Intrinsics.centred(300, *SIZE)
STEP = 4  # pixels that the camera moves from frame to frame: the seventh passes 26 of 400
CONFIG = KeyframeConfig(max_motion=0.065)


@pytest.fixture(scope="module")
def wall():
    noise = np.random.default_rng(0).integers(0, 255, (60, 200), np.uint8)
    return cv2.resize(noise, (1600, 480), interpolation=cv2.INTER_CUBIC)


def view(wall, left):
    return np.ascontiguousarray(wall[120:360, left : left + SIZE[0]])


def predicted(left, depth=2.0):
    """A network's word on a camera that has moved by `left` pixels along a wall before it."""
    pose = np.eye(4)
    pose[0, 3] = left * 2.0 / CAMERA.fx
    return PredictedView(pose, np.full(SIZE[::-1], depth, np.float32), CAMERA)


def chosen(config, pictures, views, rate=30.0):
    selector = KeyframeSelector(config)
    offers = zip(pictures, views, strict=True)
    return np.flatnonzero([selector.offer(g, i / rate, v) for i, (g, v) in enumerate(offers)])


def walk(wall, count):
    return [view(wall, 100 + STEP * step) for step in range(count)]


def test_a_camera_at_rest_gives_a_keyframe_only_now_and_then(wall):
    still = [view(wall, 100)] * 25
    assert chosen(KeyframeConfig(max_gap=10), still, [predicted(0)] * 25).tolist() == [0, 10, 20]


def test_a_moving_camera_gives_one_every_so_many_pixels(wall):
    views = [predicted(STEP * step) for step in range(60)]
    assert set(np.diff(chosen(CONFIG, walk(wall, 60), views))) == {7}


@pytest.mark.parametrize(
    "views",
    [
        [predicted(0)] * 60,
        [predicted(40 * step) for step in range(60)],
        [predicted(-STEP * step) for step in range(60)],
        [predicted(STEP * step, depth=0) for step in range(60)],
    ],
    ids=["at rest", "too fast", "backwards", "without depth"],
)
def test_the_picture_is_right_where_the_network_contradicts_it(wall, views):
    assert set(np.diff(chosen(CONFIG, walk(wall, 60), views))) == {7}


def test_the_network_decides_where_there_is_nothing_to_follow():
    fog = [np.full(SIZE[::-1], 128, np.uint8)] * 60
    views = [predicted(STEP * step) for step in range(60)]
    assert set(np.diff(chosen(CONFIG, fog, views))) == {7}
    assert np.diff(chosen(CONFIG, fog, [predicted(0)] * 60)).tolist() == [CONFIG.max_gap]


def test_little_overlap_makes_a_keyframe_as_well(wall):
    half = KeyframeConfig(max_motion=1.0, min_overlap=0.7)
    views = [predicted(STEP * step) for step in range(60)]
    gap = np.diff(chosen(half, walk(wall, 60), views))[0]
    assert gap == pytest.approx(0.3 * SIZE[0] / STEP, abs=3)


@given(st.floats(2, 40), st.floats(5, 60))
@settings(max_examples=20, deadline=None)
def test_their_rate_has_a_cap(max_rate, rate):
    config = KeyframeConfig(max_motion=0.0, max_rate=max_rate)
    fog = [np.full(SIZE[::-1], 128, np.uint8)] * 40
    found = chosen(config, fog, [predicted(STEP * step) for step in range(40)], rate)
    assert np.diff(found).min(initial=40) / rate >= 0.9 / max_rate
    assert np.diff(found).max() <= max(1, np.ceil(rate / max_rate))


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"max_rate is 0\.0, it must be more than 0"):
        KeyframeConfig(max_rate=0.0)


def test_a_blurred_frame_is_passed_over(wall):
    frames = walk(wall, 15)
    frames[7] = cv2.GaussianBlur(frames[7], (0, 0), 2)
    views = [predicted(STEP * step) for step in range(15)]
    assert chosen(CONFIG, frames, views)[1] == 8


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 3), st.floats(1.3, 3))
@settings(max_examples=30, deadline=None)
def test_blur_lowers_sharpness(seed, sigma, factor):
    noise = np.random.default_rng(seed).integers(0, 255, (24, 32), np.uint8)
    picture = cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC)
    blurred, more = (cv2.GaussianBlur(picture, (0, 0), s) for s in (sigma, factor * sigma))
    assert sharpness(more) < sharpness(blurred) < sharpness(picture)


def test_small_pictures_are_not_reduced(wall):
    assert reduced(wall[:100, :200]).shape == (100, 200)
    assert max(reduced(wall).shape) == 320
