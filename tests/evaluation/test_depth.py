from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.evaluation.depth import DepthAlignment, depth_errors

TRUE = np.random.default_rng(0).gamma(4.0, 1.0, 1001) + 0.1


@given(st.floats(0.001, 1000), st.sampled_from(["median", "absolute", "least_squares"]))
def test_the_unit_does_not_matter(unit: float, align: DepthAlignment) -> None:
    errors = depth_errors(unit * TRUE, TRUE, align)
    assert errors.abs_rel < 1e-9
    assert errors.delta_125 == 1
    assert errors.scale == pytest.approx(1 / unit)
    assert errors.pixels == 1001


def test_metric_depth_is_taken_as_it_is() -> None:
    errors = depth_errors(1.2 * TRUE, TRUE, "metric")
    assert errors.abs_rel == pytest.approx(0.2)
    assert (errors.scale, errors.delta_125) == (1.0, 1.0)
    assert depth_errors(1.3 * TRUE, TRUE, "metric").delta_125 == 0
    assert depth_errors(TRUE / 1.3, TRUE, "metric").delta_125 == 0


def test_known_errors() -> None:
    true = np.array([1.0, 2.0, 4.0])
    predicted = np.array([0.5, 1.0, 1.0])
    errors = depth_errors(predicted, true, "median")
    assert errors.scale == 2.0  # medians 2 and 1
    assert errors.abs_rel == pytest.approx((0 + 0 + 0.5) / 3)
    assert errors.delta_125 == pytest.approx(2 / 3)
    assert depth_errors(predicted, true, "least_squares").scale == pytest.approx(6.5 / 2.25)


@pytest.mark.parametrize("change", [-0.3, -0.001, 0.001, 0.3])
def test_least_squares_scale_is_the_best(change: float) -> None:
    predicted = TRUE + np.random.default_rng(1).normal(size=TRUE.size) * 0.05
    best = depth_errors(predicted, TRUE, "least_squares").scale
    other = best * (1 + change)
    assert np.sum((best * predicted - TRUE) ** 2) < np.sum((other * predicted - TRUE) ** 2)


@given(st.floats(0.5, 2.0))
def test_absolute_scale_is_the_best(change: float) -> None:
    predicted = TRUE + np.random.default_rng(1).normal(size=TRUE.size) * 0.05
    best = depth_errors(predicted, TRUE, "absolute").scale
    error, other = (np.abs(scale * predicted - TRUE).sum() for scale in (best, change * best))
    assert error <= other * (1 + 1e-12)


def test_absolute_scale_does_not_jump_where_few_depths_lie_around_the_middle() -> None:
    true = np.concatenate([np.full(501, 1.0), np.full(500, 2.0)])
    predicted = true.copy()
    predicted[:2] = 2.0  # tips the median over
    assert depth_errors(predicted, true, "median").scale == pytest.approx(0.5)
    assert depth_errors(predicted, true, "absolute").scale == pytest.approx(1.0)


@pytest.mark.parametrize("align", get_args(DepthAlignment))
def test_nothing_to_compare(align: DepthAlignment) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        depth_errors(np.empty(0), np.empty(0), align)
