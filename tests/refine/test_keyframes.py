import cv2
import numpy as np
import pytest

from mem3r_plugin.refine.keyframes import KeyframeConfig, KeyframeSelector, reduced, sharpness


@pytest.fixture(scope="module")
def wall():
    noise = np.random.default_rng(0).integers(0, 255, (60, 200), np.uint8)
    return cv2.resize(noise, (1600, 480), interpolation=cv2.INTER_CUBIC)


def view(wall, left):
    return np.ascontiguousarray(wall[120:360, left : left + 320])


def test_a_camera_at_rest_gives_a_keyframe_only_now_and_then(wall):
    selector = KeyframeSelector(KeyframeConfig(max_gap=10))
    chosen = [selector.offer(view(wall, 100)) for _ in range(25)]
    assert np.flatnonzero(chosen).tolist() == [0, 10, 20]


def test_a_moving_camera_gives_one_every_so_many_pixels(wall):
    selector = KeyframeSelector(KeyframeConfig(max_motion=0.065))
    chosen = np.flatnonzero([selector.offer(view(wall, 100 + 4 * step)) for step in range(60)])
    assert set(np.diff(chosen)) == {7}  # 26 of 400 pixels are passed by the seventh step of 4


def test_their_rate_has_a_cap(wall):
    selector = KeyframeSelector(KeyframeConfig(max_motion=0.0, min_gap=5))
    chosen = np.flatnonzero([selector.offer(view(wall, 100 + 4 * step)) for step in range(30)])
    assert np.diff(chosen).min() >= 5


def test_a_blurred_frame_is_passed_over(wall):
    selector = KeyframeSelector(KeyframeConfig(max_motion=0.065))
    frames = [view(wall, 100 + 4 * step) for step in range(15)]
    frames[7] = cv2.GaussianBlur(frames[7], (0, 0), 2)
    assert np.flatnonzero([selector.offer(frame) for frame in frames])[1] == 8


def test_blur_lowers_sharpness(wall):
    scores = [sharpness(cv2.GaussianBlur(wall, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert sorted(scores, reverse=True) == scores
    assert scores[-1] < 0.5 * scores[0]


def test_small_pictures_are_not_reduced(wall):
    assert reduced(wall[:100, :200]).shape == (100, 200)
    assert max(reduced(wall).shape) == 320
