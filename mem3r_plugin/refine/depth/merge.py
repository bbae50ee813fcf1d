"""Measured depth where there is some, the network's shape at its scale elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_EDGE = 20.0
"""How fast a brightness edge cuts smoothness, per unit of brightness."""

_SMALLEST = 16
"""Sides below which a map is not halved any further."""

_ITERATIONS = 20
"""Conjugate-gradient steps at each size."""


def merge_depth(
    measured: Tensor, weight: Tensor, guide: Tensor, prior: Tensor | None = None
) -> Tensor:
    """Fill a depth map by the shape of a prior, or smoothly where that is worth nothing.

    The logarithm of the correction to the prior is found as an edge-aware membrane: the minimum of
    ``sum weight (x - measured)^2 + sum (dx)^2`` over neighbouring pixels, with less smoothness
    across brightness edges. Only the share of the prior's relief that measurements confirm is used.

    Args:
        measured: Measured depth (H, W), positive where `weight` is.
        weight: How far to trust it (H, W), 0 = not at all; positive somewhere.
        guide: Brightness (H, W) in [0, 1].
        prior: The network's depth (H, W) at about the right scale; 0 = none.

    Returns:
        Depth (H, W), positive everywhere.

    Raises:
        ValueError: no pixel has a weight.
    """
    usable = (weight > 0) & (measured > 0)
    if not bool(usable.any()):
        raise ValueError("no measured depth to merge")
    target = torch.where(usable, measured, 1.0).log()
    weight = torch.where(usable, weight, 0.0)
    relief = torch.zeros_like(target)
    if prior is not None and bool((prior > 0).all()):
        shape = prior.log()
        relief = relief_share(target, weight, shape) * shape
    return (_membrane(target - relief, weight, guide) + relief).exp()


def relief_share(target: Tensor, weight: Tensor, shape: Tensor, distance: int = 8) -> float:
    """How much of a prior's relief measurements confirm, between 0 and 1.

    The slope of the least-squares line through differences of log depth between pixels `distance`
    apart, measured against prior.

    Args:
        target: Measured log depth (H, W).
        weight: Its weight (H, W).
        shape: The prior's log depth (H, W).
        distance: How far apart pixels are compared.
    """
    product, square = 0.0, 1e-9
    for axis in (0, 1):
        length = target.shape[axis] - distance
        if length <= 0:
            continue
        first = [x.narrow(axis, 0, length) for x in (target, weight, shape)]
        second = [x.narrow(axis, distance, length) for x in (target, weight, shape)]
        both = first[1] * second[1]
        measured = (second[0] - first[0]).clamp(-0.5, 0.5)
        believed = (second[2] - first[2]).clamp(-0.5, 0.5)
        product += float((both * measured * believed).sum())
        square += float((both * believed**2).sum())
    return min(max(product / square, 0.0), 1.0)


def _membrane(target: Tensor, weight: Tensor, guide: Tensor) -> Tensor:
    """The membrane (H, W) through weighted targets, solved from small to full size."""
    height, width = target.shape
    if min(height, width) >= 2 * _SMALLEST:
        weighted, less = _halved(target * weight), _halved(weight)
        coarse = _membrane(weighted / less.clamp_min(1e-9), less, _halved(guide))
        start = functional.interpolate(
            coarse[None, None], size=(height, width), mode="bilinear", align_corners=False
        )[0, 0]
    else:
        start = torch.full_like(target, float((target * weight).sum() / weight.sum()))
    return _conjugate_gradients(start, target, weight, guide)


def _conjugate_gradients(start: Tensor, target: Tensor, weight: Tensor, guide: Tensor) -> Tensor:
    """Some steps towards the membrane, preconditioned by the diagonal (Saad 2003, alg. 9.1)."""
    across = torch.exp(-_EDGE * guide.diff(dim=1).abs()) + 1e-3
    down = torch.exp(-_EDGE * guide.diff(dim=0).abs()) + 1e-3

    def apply(x: Tensor) -> Tensor:
        flow_across, flow_down = across * x.diff(dim=1), down * x.diff(dim=0)
        result = weight * x
        result[:, 1:] += flow_across
        result[:, :-1] -= flow_across
        result[1:] += flow_down
        result[:-1] -= flow_down
        return result

    diagonal = weight.clone()
    diagonal[:, 1:] += across
    diagonal[:, :-1] += across
    diagonal[1:] += down
    diagonal[:-1] += down
    x = start.clone()
    residual = weight * target - apply(x)
    direction = residual / diagonal
    energy = (residual * direction).sum()
    for _ in range(_ITERATIONS):
        image = apply(direction)
        step = energy / (direction * image).sum().clamp_min(1e-20)
        x += step * direction
        residual -= step * image
        conditioned = residual / diagonal
        previous, energy = energy, (residual * conditioned).sum()
        direction = conditioned + energy / previous.clamp_min(1e-20) * direction
    return x


def _halved(values: Tensor) -> Tensor:
    """Sums to averages over 2x2 pixels; an odd last row or column stands for itself."""
    return functional.avg_pool2d(values[None], 2, ceil_mode=True, count_include_pad=False)[0]
