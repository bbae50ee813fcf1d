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


def depth_contact_sheet(scan: Scan, path: Path, frames: int = 6) -> None:
    """Draw picture, depth and confidence of frames spread evenly over a scan, one row a frame.

    Depth and confidence have one colour scale for the whole sheet; pixels without depth are grey.

    Raises:
        OutputError: the picture cannot be written.
    """
    indices = np.unique(np.linspace(0, len(scan) - 1, frames).round().astype(int)).tolist()
    depths = [_without_none(scan.depth(index), scan.depth(index)) for index in indices]
    confidences = [_without_none(scan.confidence(index), scan.depth(index)) for index in indices]
    width, height = scan.transform.target_size
    cell = (_CELL * width / max(width, height), _CELL * height / max(width, height))
    figure = new_figure(3 * cell[0] + 0.5, len(indices) * (cell[1] + 0.05) + 0.9)
    axes = figure.subplots(len(indices), 3, squeeze=False)
    for row, index in enumerate(indices):
        axes[row, 0].imshow(_network_view(scan, index))
        axes[row, 0].set_ylabel(f"frame {index}", fontsize=8)
    _draw_column(figure, axes[:, 1], depths, "depth")
    _draw_column(figure, axes[:, 2], confidences, "confidence")
    for column, title in enumerate(("picture", "depth (z)", "confidence")):
        axes[0, column].set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    save_figure(figure, path)


def _draw_column(
    figure: Figure, column: NDArray[Any], maps: list[NDArray[np.float32]], label: str
) -> None:
    """Draw maps below each other with one colour scale and one colour bar."""
    known = np.concatenate([values[np.isfinite(values)] for values in maps])
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    colours = colormaps["turbo" if label == "depth" else "viridis"].with_extremes(bad="0.6")
    for axis, values in zip(column, maps, strict=True):
        drawn = axis.imshow(values, cmap=colours, vmin=low, vmax=high)
    bar = figure.colorbar(drawn, ax=column.tolist(), location="bottom", aspect=30, pad=0.01)
    bar.ax.tick_params(labelsize=7)


def _without_none(values: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(depth > 0, values, np.nan)


def _network_view(scan: Scan, index: int) -> NDArray[np.uint8]:
    """The part of the original picture that the network saw, at network size."""
    size = scan.transform.target_size
    corners = scan.transform.inverse.pixels(np.array([(0, 0), size], dtype=np.float64))
    (left, top), (right, bottom) = np.rint(corners).astype(int).clip(0).tolist()
    part = scan.image(index)[top:bottom, left:right]
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)
