"""A few frames of a scan side by side with their depth and confidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mem3r_plugin.pictures.figure import new_figure, save_figure
from mem3r_plugin.scan import Scan

_CELL = 3.2
"""Longer side of one picture, in inches."""


Column = tuple[str, str, list[NDArray[np.float32]]]
"""Title, quantity (`depth` or `confidence`) and one map per row, NaN where it has no value. Columns of one
quantity share a colour scale."""

_COLOURS = {"depth": "turbo", "confidence": "viridis"}


def depth_contact_sheet(scan: Scan, path: Path, frames: int = 6) -> None:
    """Draw picture, depth and confidence of frames spread evenly over a scan, one row a frame.

    Depth and confidence have one colour scale for the whole sheet; pixels without depth are grey.

    Raises:
        OutputError: the picture cannot be written.
    """
    indices = spread_frames(len(scan), frames)
    depths = [without_none(scan.depth(index), scan.depth(index)) for index in indices]
    confidences = [without_none(scan.confidence(index), scan.depth(index)) for index in indices]
    columns = [("depth (z)", "depth", depths), ("confidence", "confidence", confidences)]
    draw_sheet(scan, indices, columns, path)


def spread_frames(count: int, wanted: int) -> list[int]:
    """At most `wanted` frames spread evenly over `count` of them."""
    return np.unique(np.linspace(0, count - 1, wanted).round().astype(int)).tolist()


def without_none(values: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map with NaN where there is no depth."""
    return np.where(depth > 0, values, np.nan)


def draw_sheet(scan: Scan, indices: list[int], columns: list[Column], path: Path) -> None:
    """Draw the pictures of some frames and columns of maps beside them, one row a frame.

    Raises:
        OutputError: the picture cannot be written.
    """
    width, height = scan.transform.target_size
    cell = (_CELL * width / max(width, height), _CELL * height / max(width, height))
    count = 1 + len(columns)
    figure = new_figure(count * cell[0] + 0.5, len(indices) * (cell[1] + 0.05) + 0.9)
    axes = figure.subplots(len(indices), count, squeeze=False)
    axes[0, 0].set_title("picture", fontsize=9)
    for row, index in enumerate(indices):
        axes[row, 0].imshow(_network_view(scan, index))
        axes[row, 0].set_ylabel(f"frame {index}", fontsize=8)
    for quantity in dict.fromkeys(quantity for _, quantity, _ in columns):
        drawn = [rank for rank, column in enumerate(columns) if column[1] == quantity]
        below = axes[:, [rank + 1 for rank in drawn]]
        _draw_columns(figure, below, [columns[rank] for rank in drawn])
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    save_figure(figure, path)


def _draw_columns(figure: Figure, axes: NDArray[Any], columns: list[Column]) -> None:
    """Draw columns (rows, n) of one quantity with one colour scale and one colour bar."""
    known = np.concatenate([m[np.isfinite(m)] for _, _, maps in columns for m in maps])
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    colours = colormaps[_COLOURS[columns[0][1]]].with_extremes(bad="0.6")
    for column, (title, _, maps) in zip(axes.T, columns, strict=True):
        column[0].set_title(title, fontsize=9)
        for axis, values in zip(column, maps, strict=True):
            drawn = axis.imshow(values, cmap=colours, vmin=low, vmax=high)
    bar = figure.colorbar(drawn, ax=axes.ravel().tolist(), location="bottom", aspect=30, pad=0.01)
    bar.ax.tick_params(labelsize=7)


def _network_view(scan: Scan, index: int) -> NDArray[np.uint8]:
    """The part of the original picture that the network saw, at network size."""
    size = scan.transform.target_size
    corners = scan.transform.inverse.pixels(np.array([(0, 0), size], dtype=np.float64))
    (left, top), (right, bottom) = np.rint(corners).astype(int).clip(0).tolist()
    part = scan.image(index)[top:bottom, left:right]
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)
