"""The focal length that a map of camera-frame points implies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry.camera import FloatArray, Intrinsics
from mem3r_plugin.geometry.image_transform import ImageTransform

BINS = 2048
"""Bins of a focal histogram, 0.26 % of the focal length each."""

SHORTEST, LONGEST = 0.1, 20.0
"""Range of a focal histogram, in long sides of the picture: 157 to 2.9 degrees of view."""


def focal_votes(
    points: NDArray[np.floating], confidence: NDArray[np.floating], transform: ImageTransform
) -> FloatArray:
    """Every pixel's vote for the focal length, as a histogram over its logarithm, shape (BINS,).

    The physical camera has square pixels and its principal point in the middle of the original
    picture, so votes count original pixels, in long sides of the picture. A pixel at `u` from the
    principal point whose point lies in direction `m = (X/Z, Y/Z)` votes for ``u.u / m.u``: what is
    wrong across `u` drops out, and errors along `u` leave the median of the votes in place.
    Votes weigh confidence times distance from the principal point, the inverse of their spread.

    The histogram sums to the fraction of pixels with a vote, so no single frame can outweigh the
    others by the size of its confidences.

    Args:
        points: self-view points (h, w, 3) of the network's picture, camera frame.
        confidence: their confidences (h, w); 0 where a pixel shall not vote.
        transform: original to network pixels.
    """
    # Every second row and column votes: plenty, and four times as fast.
    points, confidence = points[::2, ::2], confidence[::2, ::2]
    width, height = transform.source_size
    unit = transform.intrinsics(Intrinsics.centred(max(width, height), width, height))
    offset = unit.unproject(unit.pixel_centres()[::2, ::2], np.ones(confidence.shape))[..., :2]
    radius = np.linalg.norm(offset, axis=-1)
    with np.errstate(all="ignore"):  # a network may say anything; unusable votes are dropped below
        along = (points[..., :2] * offset).sum(axis=-1) / points[..., 2]
        log_focal = np.log(radius**2 / along)
    weight = radius * confidence
    position = (log_focal - np.log(SHORTEST)) / np.log(LONGEST / SHORTEST) * BINS
    usable = (points[..., 2] > 0) & (position >= 0) & (position < BINS)
    usable &= np.isfinite(weight) & (weight > 0)
    if not usable.any():
        return np.zeros(BINS)
    votes = np.bincount(position[usable].astype(np.int64), weight[usable], BINS)
    return votes * (usable.mean() / votes.sum())


def focal_from_votes(votes: FloatArray) -> float | None:
    """The median of focal votes (BINS,), in long sides of the picture; None without a vote.

    Inside its bin the median is interpolated, which brings it well below a bin's 0.26 %.
    """
    total = np.cumsum(votes)
    if total[-1] <= 0:
        return None
    middle = int(np.searchsorted(total, total[-1] / 2))
    position = middle + 1 - (total[middle] - total[-1] / 2) / votes[middle]
    return float(SHORTEST * (LONGEST / SHORTEST) ** (position / BINS))


def weiszfeld_focal(
    points: NDArray[np.floating], principal_point: tuple[float, float], iterations: int = 10
) -> float:
    """The focal length in pixels as CUT3R's demos find it, for comparison with them only.

    The geometric median of the reprojection errors by Weiszfeld's iteration, with equal weights
    and pixel centres at INTEGERS. A few points near z = 0 spoil it; `focal_votes` does not mind.

    Args:
        points: self-view points (h, w, 3).
        principal_point: (x, y) in integer-centred pixels.
        iterations: how often the weights are renewed.
    """
    height, width = points.shape[:2]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    offset = np.stack([columns, rows], axis=-1) - np.array(principal_point)
    with np.errstate(all="ignore"):
        ray = points[..., :2].astype(np.float64) / points[..., 2:]
    ray = np.nan_to_num(ray, nan=0.0, posinf=0.0, neginf=0.0)
    along, square = (ray * offset).sum(axis=-1), (ray * ray).sum(axis=-1)
    focal = along.mean() / square.mean()
    for _ in range(iterations):
        weight = 1 / np.maximum(np.linalg.norm(offset - focal * ray, axis=-1), 1e-8)
        focal = (weight * along).mean() / (weight * square).mean()
    return max(0.0, float(focal))
