"""Depth of a picture from its neighbours: a plane sweep, coarse to fine, regularised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mem3r_plugin.refine.depth.semi_global import aggregate
from mem3r_plugin.refine.depth.views import View, inside, projection_line, sample

_NOISE = (1.5 / 255) ** 2
"""Brightness variance of camera noise; below it a window has no texture to match."""


@dataclass(frozen=True)
class StereoConfig:
    """Settings of multi-view stereo."""

    neighbours: int = 6
    """Views that a view is matched with; the better half decides at each pixel (occlusion)."""
    angle: float = 5.0
    """Wanted angle between the rays of two matched views, in degrees."""
    planes: int = 96
    """Depths tried at half size, evenly spaced in inverse depth."""
    fine_planes: int = 17
    """Depths tried at full size around the result at half size, four times as dense."""
    window: int = 5
    """Side of the matching window in pixels, odd."""
    small_step: float = 0.03
    """Price of a slant, in units of correlation."""
    large_step: float = 0.5
    """Price of a jump in depth, in units of correlation."""
    prior_weight: float = 0.2
    """Price of leaving a prior depth that fits the structure perfectly."""


@dataclass(frozen=True, eq=False)
class PriorDepth:
    """What is believed about a depth map before matching."""

    inverse_depth: Tensor
    """Shape (H, W); 0 where nothing is known."""
    spread: float
    """Typical relative error of it."""


def plane_sweep(
    reference: View,
    others: Sequence[View],
    depth_range: tuple[float, float],
    config: StereoConfig,
    prior: PriorDepth | None = None,
) -> Tensor:
    """Inverse depth (H, W) of a view, found by matching it with others.

    Collins, "A space-sweep approach to true multi-image matching", CVPR 1996, with normalised
    cross-correlation of windows, first at half size over all planes with semi-global matching, then
    at full size around that surface, so that windows there follow its slant.

    Args:
        reference: The view whose depth is wanted.
        others: At least one view that sees the same things.
        depth_range: Nearest and farthest depth looked for.
        config: Settings.
        prior: Depth believed in beforehand.
    """
    near, far = depth_range
    planes = torch.linspace(1 / far, 1 / near, config.planes, device=reference.grey.device)
    spacing = float(planes[1] - planes[0])
    small = reference.smaller(2)
    score = match(small, [view.smaller(2) for view in others], planes[:, None, None], config.window)
    cost = (1 - score).permute(1, 2, 0).contiguous()
    if prior is not None:
        cost += _prior_cost(_halved(prior.inverse_depth), planes, prior, config)
    total = aggregate(cost, small.grey, config.small_step, config.large_step)
    coarse = planes[0] + spacing * _best_position(-total.permute(2, 0, 1))
    return _refined(reference, others, _enlarged(coarse, reference), spacing / 4, config)


def match(reference: View, others: Sequence[View], inverse_depth: Tensor, window: int) -> Tensor:
    """How well other views agree with `reference` if it has these depths.

    Args:
        reference: The view asked about.
        others: Views matched with it.
        inverse_depth: Hypotheses (D, H, W) or (D, 1, 1).
        window: Side of the correlation window.

    Returns:
        Correlation (D, H, W) in [0, 1], the mean over the better half of the views.
    """
    grey = reference.grey[None]
    mean = _box(grey, window)
    variance = (_box(grey**2, window) - mean**2).clamp_min(0) + _NOISE
    scores = []
    for other in others:
        start, step = projection_line(reference, other)
        z = start[2] + inverse_depth * step[2]
        x = (start[0] + inverse_depth * step[0]) / z
        y = (start[1] + inverse_depth * step[1]) / z
        seen = sample(other.grey, x, y)
        seen_mean, square, product = _box(torch.stack([seen, seen**2, seen * grey]), window)
        seen_variance = (square - seen_mean**2).clamp_min(0) + _NOISE
        score = (product - seen_mean * mean) * torch.rsqrt(variance * seen_variance)
        scores.append(torch.where(inside(x, y, other.camera) & (z > 0), score.clamp_min(0), 0.0))
    better_half = (len(scores) + 1) // 2
    return torch.stack(scores).topk(better_half, dim=0, sorted=False).values.mean(dim=0)


def _prior_cost(
    inverse_depth: Tensor, planes: Tensor, prior: PriorDepth, config: StereoConfig
) -> Tensor:
    """Costs (H, W, D) of leaving a prior, low where the prior is rough."""
    distance = (planes - inverse_depth[..., None]).abs() / inverse_depth[..., None].clamp_min(1e-6)
    weight = config.prior_weight / (1 + (prior.spread / 0.1) ** 2)
    cost = weight * (distance / max(prior.spread, 0.02) / 3).clamp_max(1)
    return torch.where(inverse_depth[..., None] > 0, cost, 0.0)


def _refined(
    reference: View,
    others: Sequence[View],
    inverse_depth: Tensor,
    step: float,
    config: StereoConfig,
) -> Tensor:
    """The best surface within a few steps of inverse depth of a given one."""
    reach = config.fine_planes // 2
    steps = torch.arange(-reach, reach + 1, device=inverse_depth.device)[:, None, None]
    score = match(reference, others, (inverse_depth + steps * step).clamp_min(1e-6), config.window)
    # Without texture all scores are alike: stay with the regularised surface.
    score = _box(score, 3) - 0.0004 * steps**2
    return (inverse_depth + (_best_position(score) - reach) * step).clamp_min(1e-6)


def _best_position(score: Tensor) -> Tensor:
    """Positions (H, W) of the highest of scores (D, H, W), between planes by a parabola."""
    best = score.argmax(dim=0, keepdim=True)
    middle = best.clamp(1, len(score) - 2)
    before, at, after = (score.gather(0, middle + i)[0] for i in (-1, 0, 1))
    offset = (after - before) / (2 * (2 * at - before - after).clamp_min(1e-6))
    return best[0] + torch.where(best[0] == middle[0], offset.clamp(-0.5, 0.5), 0.0)


def _box(values: Tensor, window: int) -> Tensor:
    """Means over square windows, which shrink at the borders; shape (..., H, W) kept."""
    flat = values.reshape(-1, 1, *values.shape[-2:])
    pad = window // 2
    flat = functional.avg_pool2d(flat, (window, 1), 1, (pad, 0), count_include_pad=False)
    flat = functional.avg_pool2d(flat, (1, window), 1, (0, pad), count_include_pad=False)
    return flat.reshape(values.shape)


def _halved(values: Tensor) -> Tensor:
    """A map averaged over what is known of 2 x 2 pixels; 0 = unknown; a remainder is cut off."""
    total, known = functional.avg_pool2d(torch.stack([values, (values > 0).to(values)]), 2)
    return total / known.clamp_min(0.25)


def _enlarged(values: Tensor, view: View) -> Tensor:
    """A map of `view.smaller(2)` at the size of the view; what was cut off repeats the border."""
    larger = functional.interpolate(values[None, None], scale_factor=2, mode="bilinear")
    height, width = view.grey.shape
    rest = (0, width - larger.shape[3], 0, height - larger.shape[2])
    return functional.pad(larger, rest, mode="replicate")[0, 0]
