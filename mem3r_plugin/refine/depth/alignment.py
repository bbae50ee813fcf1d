"""A network's depth map brought to the scale of refined structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray

_TERMS = (1, 2, 4)
"""Sizes of the corrections tried: scale; and a power of depth; and a slope over the picture."""

_FOLDS = 5
_POINTS_PER_TERM = 10
_WORTHWHILE = 0.9
"""A larger correction must bring the held-out residual below this part of the smaller one's."""

_NEGLIGIBLE = 1e-3
"""Residuals below this need no larger correction."""


@dataclass(frozen=True)
class DepthCorrection:
    """A correction of log depth, linear in (1, log depth, x, y).

    With one coefficient it is a scale, with two ``depth -> scale * depth^power``, with four the scale
    varies over the picture as well.
    """

    coefficients: FloatArray
    """Shape (1,), (2,) or (4,)."""
    residual: float
    """Median relative error against the evidence, each part held out in turn."""
    points: int
    """Amount of evidence."""

    def apply(self, depth: NDArray[np.floating], camera: Intrinsics) -> NDArray[np.float32]:
        """A depth map (H, W) corrected; 0 stays 0."""
        terms = _terms(np.where(depth > 0, depth, 1.0), camera.pixel_centres(), camera)
        change = terms[..., : len(self.coefficients)] @ self.coefficients
        return np.where(depth > 0, depth * np.exp(change), 0).astype(np.float32)


def align_depth(
    depth: NDArray[np.floating], camera: Intrinsics, pixels: FloatArray, known: FloatArray
) -> DepthCorrection | None:
    """The correction that brings a depth map to known depths, robustly.

    Of the three sizes of correction the smallest that evidence supports is taken, by cross-validation.

    Args:
        depth: z-depth (H, W); 0 = none.
        camera: The camera of the map.
        pixels: Where depth is known (n, 2), inside the map.
        known: z-depth there (n,).

    Returns:
        The correction; None with fewer than ten usable points.
    """
    columns, rows = np.floor(pixels).astype(np.int64).T
    prior = depth[rows, columns].astype(np.float64)
    usable = (prior > 0) & (known > 0)
    prior, known, pixels = prior[usable], known[usable], pixels[usable]
    terms = _terms(prior, pixels, camera)
    target = np.log(known / prior) if len(known) else known
    best = None
    for size in _TERMS:
        if len(target) < _POINTS_PER_TERM * size:
            break
        residual = _held_out_residual(terms[:, :size], target)
        if best is None or residual < _WORTHWHILE * best.residual - _NEGLIGIBLE:
            coefficients = _robust_fit(terms[:, :size], target)
            best = DepthCorrection(coefficients, residual, len(target))
    return best


def _terms(depth: NDArray[Any], pixels: FloatArray, camera: Intrinsics) -> FloatArray:
    """What a correction may depend on, shape (..., 4)."""
    x = (pixels[..., 0] - camera.cx) / camera.fx
    y = (pixels[..., 1] - camera.cy) / camera.fy
    return np.stack([np.ones_like(x), np.log(depth), x, y], axis=-1)


def _held_out_residual(terms: FloatArray, target: FloatArray) -> float:
    """Median relative error over points that did not take part in the fit."""
    fold = np.arange(len(target)) % _FOLDS
    errors = []
    for held in range(_FOLDS):
        coefficients = _robust_fit(terms[fold != held], target[fold != held])
        errors.append(np.abs(terms[fold == held] @ coefficients - target[fold == held]))
    return float(np.expm1(np.median(np.concatenate(errors))))


def _robust_fit(terms: FloatArray, target: FloatArray) -> FloatArray:
    """Cauchy-weighted least squares around the median, its scale by the median deviation."""
    coefficients: FloatArray = np.zeros(terms.shape[1])
    coefficients[0] = np.median(target)
    for _ in range(20):
        error = target - terms @ coefficients
        spread = max(2.385 * 1.4826 * float(np.median(np.abs(error))), 1e-6)
        root = 1 / np.sqrt(1 + (error / spread) ** 2)
        solution = np.linalg.lstsq(terms * root[:, None], target * root, rcond=None)[0]
        coefficients = solution.astype(np.float64)
    return coefficients
