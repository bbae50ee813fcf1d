"""Agreement between the depth maps of several views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mem3r_plugin.refine.depth.views import View, inside, projection_line, sample


def cross_check(
    reference: View,
    inverse_depth: Tensor,
    others: Sequence[tuple[View, Tensor]],
    tolerance: float,
) -> tuple[Tensor, Tensor]:
    """Which other depth maps confirm a depth map, and what they say together.

    Args:
        reference: The view of the depth map.
        inverse_depth: Its inverse depth (H, W), positive.
        others: Other views and their inverse depths.
        tolerance: Largest relative difference of two depths that agree.

    Returns:
        Inverse depth (H, W), averaged over those that agree, and the number (H, W) of those beside
        the reference itself.
    """
    total = torch.zeros_like(inverse_depth)
    agreeing = torch.zeros_like(inverse_depth)
    for view, other in others:
        start, step = projection_line(reference, view)
        line = start + inverse_depth * step
        x, y = line[0] / line[2], line[1] / line[2]
        # Inverse depth that the other view saw over the one it should have seen.
        ratio = sample(other, x, y, mode="nearest") * line[2] / inverse_depth
        agrees = inside(x, y, view.camera) & (line[2] > 0) & ((ratio - 1).abs() < tolerance)
        total += torch.where(agrees, ratio - 1, 0.0)
        agreeing += agrees
    return inverse_depth * (1 + total / (agreeing + 1)), agreeing


def project_depth(source: View, inverse_depth: Tensor, target: View) -> Tensor:
    """Inverse depth of one view as another sees it, the nearest surface in front.

    Args:
        source: The view of the depth map.
        inverse_depth: Its inverse depth (H, W); 0 where there is none.
        target: The other view.

    Returns:
        Inverse depth (h, w) in `target`; 0 where nothing falls.
    """
    start, step = projection_line(source, target)
    line = start + inverse_depth * step
    x, y = line[0] / line[2], line[1] / line[2]
    visible = inside(x, y, target.camera) & (line[2] > 0) & (inverse_depth > 0)
    height, width = target.grey.shape
    position = y[visible].long() * width + x[visible].long()
    seen = inverse_depth.new_zeros(height * width)
    seen.scatter_reduce_(0, position, (inverse_depth / line[2])[visible], "amax")
    return seen.reshape(height, width)
