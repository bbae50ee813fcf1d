"""What is believed about a depth map before matching: the network's, or the structure's interpolation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.refine.depth.merge import merge_depth
from mem3r_plugin.refine.depth.stereo import PriorDepth

_CELLS = 8
"""Cells along each side of the picture that are held out in turns, like the squares of a chess board."""

_SPREAD = 0.12
"""Relative error of an interpolation far from all points, where nobody can measure it."""


def believed_depth(
    pixels: FloatArray, known: FloatArray, guide: Tensor, network: PriorDepth | None
) -> PriorDepth:
    """The better of the network's depth and an interpolation between points of known depth.

    How good the interpolation is between points is measured on points in cells of the picture from which
    none took part. Points crowd where there is texture, so single ones held out would flatter it.

    Args:
        pixels: Where depth is known (n, 2), inside the picture.
        known: z-depth there (n,), n > 0.
        guide: Brightness of the picture (H, W), across whose edges less is interpolated.
        network: The network's depth at the scale of the points, if there is any.
    """
    columns, rows = np.floor(pixels).astype(np.int64).T
    height, width = guide.shape
    black = (columns * _CELLS // width + rows * _CELLS // height) % 2 == 0
    surface = _interpolated(columns, rows, known, guide)
    interpolation = PriorDepth(1 / surface, _SPREAD)
    if network is None or black.all() or not black.any():
        return network or interpolation
    rest = _interpolated(columns[~black], rows[~black], known[~black], guide)
    there = rest[rows[black], columns[black]].cpu().numpy()
    error = float(np.median(np.abs(there / known[black] - 1)))
    return network if network.spread <= error else interpolation


def _interpolated(
    columns: NDArray[np.int64], rows: NDArray[np.int64], known: FloatArray, guide: Tensor
) -> Tensor:
    """Smooth depth (H, W) through points."""
    sparse = torch.zeros_like(guide)
    sparse[rows, columns] = torch.from_numpy(known).to(guide)
    return merge_depth(sparse, (sparse > 0).to(guide), guide)
