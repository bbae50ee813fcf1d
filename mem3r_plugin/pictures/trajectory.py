"""The camera path of a scan seen from above and from the side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose
from mem3r_plugin.pictures.figure import new_figure, save_figure
from mem3r_plugin.scan import Scan

_VIEWS = (
    ("from above", 0, 2, "x, right", "z, forward"),
    ("from the right", 2, 1, "z, forward", "y, down"),
)


def trajectory_plot(scan: Scan, path: Path, ground_truth: FloatArray | None = None) -> None:
    """Draw the path of a scan, beside the true one where it is known.

    The axes are those of the first camera. With `ground_truth`, one `camera_to_world` per frame of the
    scan, shape (N, 4, 4), NaN where unknown, the estimated path is aligned to the true one by a
    similarity and lengths are in the truth's unit; otherwise they are in the scan's.

    Raises:
        ValueError: there is not exactly one true pose per frame.
        OutputError: the picture cannot be written.
    """
    estimated = np.stack([frame.camera_to_world[:3, 3] for frame in scan.frames])
    if ground_truth is None:
        draw_paths([("Mem3R", estimated, "tab:blue")], f"{len(scan)} frames", path)
        return
    if ground_truth.shape != (len(scan), 4, 4):
        raise ValueError(f"{len(ground_truth)} true poses for the {len(scan)} frames of a scan")
    known = np.isfinite(ground_truth).all(axis=(1, 2))
    true = relative_pose(ground_truth[known][0], ground_truth[known])[:, :3, 3]
    aligned = umeyama(estimated[known], true).points(estimated)
    ate = np.sqrt(np.mean(np.sum((aligned[known] - true) ** 2, axis=1)))
    paths = [("truth", true, "0.55"), ("Mem3R, aligned", aligned, "tab:blue")]
    draw_paths(paths, f"{len(scan)} frames, ATE {ate:.3g}", path)


def draw_paths(paths: Sequence[tuple[str, FloatArray, str]], title: str, path: Path) -> None:
    """Draw camera centres (n, 3), each with its label and colour, from above and from the side.

    Raises:
        OutputError: the picture cannot be written.
    """
    figure = new_figure(11, 5.5)
    figure.suptitle(title)
    for axes, (view, across, up, across_label, up_label) in zip(
        figure.subplots(1, 2), _VIEWS, strict=True
    ):
        for label, centres, colour in paths:
            _draw_path(axes, centres[:, across], centres[:, up], label, colour)
        axes.set(title=view, xlabel=across_label, ylabel=up_label)
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(alpha=0.3)
        if up == 1:
            axes.invert_yaxis()  # y points down
    axes.legend(fontsize=8, title="● start   ✕ end", title_fontsize=8)
    save_figure(figure, path)


def _draw_path(axes: Axes, across: FloatArray, up: FloatArray, label: str, colour: str) -> None:
    axes.plot(across, up, color=colour, linewidth=1.4, label=label)
    axes.plot(across[0], up[0], "o", color=colour, markersize=6)
    axes.plot(across[-1], up[-1], "X", color=colour, markersize=7)
