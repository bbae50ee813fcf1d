"""The image-level feature says what is in a picture, not where."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.stream.image_feature import image_feature

seeds = st.integers(0, 2**32 - 1)


def tokens(seed, count=48, channels=16):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, channels))).float()


@given(seeds)
def test_it_has_unit_length(seed):
    feature = image_feature(tokens(seed))
    assert feature.dtype == np.float32
    assert feature.shape == (16,)
    np.testing.assert_allclose(np.linalg.norm(feature), 1, rtol=1e-6)


@given(seeds, st.floats(0.1, 10), st.floats(-5, 5))
def test_order_contrast_and_brightness_of_the_tokens_do_not_matter(seed, contrast, brightness):
    one = tokens(seed)
    other = one.flip(0) * contrast + brightness
    np.testing.assert_allclose(image_feature(one), image_feature(other), atol=1e-5)


@given(seeds)
def test_half_precision_comes_out_as_float32(seed):
    half = image_feature(tokens(seed).bfloat16())
    np.testing.assert_allclose(half, image_feature(tokens(seed)), atol=0.01)


def test_an_empty_picture_has_a_feature_without_nan():
    assert not image_feature(torch.ones(48, 16)).any()
