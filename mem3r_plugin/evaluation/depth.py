"""Errors of depth maps against known depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DepthAlignment = Literal["median", "absolute", "least_squares", "metric"]


@dataclass(frozen=True)
class DepthErrors:
    """Errors over all compared pixels of a sequence."""

    abs_rel: float
    """Mean of |scale * predicted - true| / true."""
    median_rel: float
    """Median of the same."""
    delta_125: float
    """Share of the pixels where scale * predicted and true differ by a factor below 1.25."""
    scale: float
    """What predictions were multiplied by."""
    pixels: int
    """Number of compared pixels."""


def depth_errors(
    predicted: NDArray[np.floating], true: NDArray[np.floating], align: DepthAlignment = "median"
) -> DepthErrors:
    """Compare positive depths of the same pixels, both of shape (N,).

    Args:
        predicted: In any unit unless `align` is `metric`.
        true: The known depth.
        align: One scale for all pixels given: the ratio of the medians, which jumps where few
            depths lie around the middle; the fit of scale * predicted to true with the least sum of
            absolute errors, which does not; the least-squares fit; or none.

    Raises:
        ValueError: the shapes differ or no pixel is given.
    """
    if predicted.shape != true.shape or true.size == 0:
        raise ValueError(
            f"cannot compare {predicted.shape} predicted with {true.shape} true depths"
        )
    scale = _scale(predicted.astype(np.float64), true.astype(np.float64), align)
    scaled = scale * predicted
    ratio = np.maximum(scaled / true, true / scaled)
    relative = np.abs(scaled - true) / true
    return DepthErrors(
        abs_rel=float(np.mean(relative)),
        median_rel=float(np.median(relative)),
        delta_125=float(np.mean(ratio < 1.25)),
        scale=scale,
        pixels=true.size,
    )


def _scale(
    predicted: NDArray[np.float64], true: NDArray[np.float64], align: DepthAlignment
) -> float:
    if align == "median":
        return float(np.median(true) / np.median(predicted))
    if align == "absolute":
        return _weighted_median(true / predicted, predicted)
    if align == "least_squares":
        return float(predicted @ true / (predicted @ predicted))
    return 1.0


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The value that half of all weight lies below."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
