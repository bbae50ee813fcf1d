"""A scan's own depth where matches and map points are."""

from __future__ import annotations

import numpy as np

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.scan import Scan


def sample_depth(scan: Scan, index: int, pixels: FloatArray) -> FloatArray:
    """The scan's own depth (M,) at original pixels (M, 2); 0 = none."""
    width, height = scan.transform.target_size
    column, row = np.floor(scan.transform.pixels(pixels)).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    depth = np.zeros(len(pixels))
    depth[inside] = scan.depth(index)[row[inside], column[inside]]
    return depth
