"""Semi-global matching: smooth surfaces out of noisy matching costs."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

_EDGE = 12.0
"""How fast a brightness edge lowers the price of a jump in depth, per unit of brightness."""


def aggregate(cost: Tensor, guide: Tensor, small_step: float, large_step: float) -> Tensor:
    """Matching costs averaged over eight straight paths through the picture.

    Hirschmueller, "Stereo processing by semiglobal matching and mutual information", PAMI 2008. A
    change by one plane between neighbouring pixels costs `small_step`, a larger one `large_step`,
    less across brightness edges, where surfaces end.

    Args:
        cost: Matching costs (H, W, D) of D neighbouring planes.
        guide: Brightness (H, W) in [0, 1].
        small_step: Price of a change by one plane.
        large_step: Price of a larger change where the picture is even.

    Returns:
        Mean path costs (H, W, D).
    """
    total = torch.zeros_like(cost)
    turned = (cost.transpose(0, 1), guide.transpose(0, 1), total.transpose(0, 1))
    for backwards in (False, True):
        _sweep(cost, guide, total, (-1, 0, 1), backwards, small_step, large_step)
        _sweep(*turned, (0,), backwards, small_step, large_step)
    return total / 8


def _sweep(
    cost: Tensor,
    guide: Tensor,
    total: Tensor,
    shifts: tuple[int, ...],
    backwards: bool,
    small_step: float,
    large_step: float,
) -> None:
    """Adds to `total` the costs of paths that run from row to row, sideways by each of `shifts`."""
    rows = range(len(cost))[::-1] if backwards else range(len(cost))
    paths = cost[rows[0]].expand(len(shifts), -1, -1)
    total[rows[0]] += paths.sum(dim=0)
    for previous, row in pairwise(rows):
        before = torch.stack([paths[i].roll(shift, 0) for i, shift in enumerate(shifts)])
        brightness = torch.stack([guide[previous].roll(shift) for shift in shifts])
        edge = (guide[row] - brightness).abs()
        jump = (large_step / (1 + _EDGE * edge)).clamp_min(small_step)[..., None]
        best = before.amin(dim=-1, keepdim=True)
        step = torch.minimum(before, best + jump)
        step[..., 1:] = torch.minimum(step[..., 1:], before[..., :-1] + small_step)
        step[..., :-1] = torch.minimum(step[..., :-1], before[..., 1:] + small_step)
        paths = cost[row] + step - best
        for i, shift in enumerate(shifts):
            if shift:  # a path that enters at the side starts afresh
                border = 0 if shift > 0 else -1
                paths[i, border] = cost[row, border]
        total[row] += paths.sum(dim=0)
