import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.training.worlds import disturb, grade
from mem3r_plugin.training.worlds.photometry import _blur

PICTURES = torch.rand(4, 3, 24, 32, generator=torch.Generator().manual_seed(0))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**40))
def test_pictures_stay_pictures(seed):
    disturbed = disturb(PICTURES, seed)
    assert disturbed.shape == PICTURES.shape
    assert float(disturbed.min()) >= 0
    assert float(disturbed.max()) <= 1
    assert 0.15 < float(disturbed.mean()) < 0.85


def test_a_seed_is_a_disturbance():
    assert torch.equal(disturb(PICTURES, 3), disturb(PICTURES, 3))
    assert not torch.equal(disturb(PICTURES, 3), disturb(PICTURES, 4))


def test_exposure_drifts_smoothly():
    pictures = torch.full((60, 3, 24, 32), 0.4)
    brightness = disturb(pictures, 2).mean((1, 2, 3))
    assert float(brightness.max() - brightness.min()) > 0.01
    assert float(brightness.diff().abs().max()) < 0.03


def test_metered_exposure_follows_the_pictures_late():
    pictures = torch.full((40, 3, 24, 32), 0.4)
    pictures[10:] = 0.2
    brightness = disturb(pictures, 2, metering=0.2).mean((1, 2, 3))
    assert float(brightness[10] / brightness[9]) < 0.65  # dark at first
    assert float(brightness[39] / brightness[9]) > 0.9  # and bright again
    assert float(brightness[10:].diff().min()) > -0.01


def test_dark_pictures_are_exposed_longer():
    assert float(disturb(PICTURES * 0.1, 1).mean()) > 0.2


def test_pictures_given_are_left_alone():
    before = PICTURES.clone()
    disturb(PICTURES, 7)
    assert torch.equal(PICTURES, before)


def test_blur_keeps_brightness_and_spreads_a_point_by_sigma():
    point = torch.zeros(1, 3, 41, 41)
    point[..., 20, 20] = 1
    blurred = _blur(point, sigma=1.5)
    across = blurred[0, 0].sum(0)
    assert torch.allclose(blurred.sum((2, 3)), torch.ones(1, 3))
    variance = ((torch.arange(41) - 20) ** 2 * across).sum()
    assert abs(float(variance) - 1.5**2) < 0.1


@settings(max_examples=30)
@given(seed=st.integers(0, 2**40))
def test_graded_pictures_stay_pictures_and_the_order_of_greys_stays(seed):
    ramp = torch.linspace(0, 1, 32).expand(
        2, 3, 24, 32
    )  # straight, so that sharpening leaves its middle
    graded = grade(ramp, np.random.default_rng(seed))
    assert graded.shape == ramp.shape
    assert float(graded.min()) >= 0
    assert float(graded.max()) <= 1
    assert (graded[..., 1:-1].diff(dim=-1) >= -1e-6).all()
    assert torch.equal(graded[0], graded[1])  # one look for all views


def test_some_cameras_are_grey():
    looks = [grade(PICTURES, np.random.default_rng(seed)) for seed in range(60)]
    grey = [float((look[:, 0] - look[:, 2]).abs().max()) < 1e-6 for look in looks]
    assert 0.15 < np.mean(grey) < 0.45
