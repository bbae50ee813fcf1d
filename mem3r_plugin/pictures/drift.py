"""How errors grow with the length of a sequence, one panel for each group of sequences."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mem3r_plugin.pictures.figure import new_figure, save_figure

_COLUMNS = 4
_SHORTEST = 100
"""Groups whose sequences are all shorter than this make no curve."""

Summary = dict[str, dict[str, list[dict[str, Any]]]]
"""Errors by contestant, group and length, as `evaluation.drift.DriftResults.summary` gives them."""


def drift_curves(summary: Summary, baseline: str, relative: str, path: Path) -> None:
    """Draw the trajectory error over the number of frames.

    A band is the standard deviation over seeds.

    Args:
        summary: errors of every contestant.
        baseline: the contestant drawn in grey.
        relative: the group whose errors are in units of the baseline's; its panel comes first.
        path: the picture.

    Raises:
        OutputError: the picture cannot be written.
    """
    groups = sorted(
        (group for group, rows in summary[baseline].items() if rows[-1]["frames"] >= _SHORTEST),
        key=lambda group: group != relative,
    )
    columns = min(_COLUMNS, max(len(groups), 1))
    rows = max(math.ceil(len(groups) / columns), 1)
    figure = new_figure(3.6 * columns, 3.2 * rows + 0.6)
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for panel in panels[len(groups) :]:
        panel.set_axis_off()
    for panel, group in zip(panels, groups, strict=False):
        for index, (name, errors) in enumerate(summary.items()):
            if group in errors:
                look = ("0.6", "--") if name == baseline else _look(index - 1)
                _draw(panel, errors[group], name, *look)
        unit = "ATE / that of standing still" if group == relative else "ATE, unit of the truth"
        panel.set(title=group, xlabel="frames", ylabel=unit, ylim=(0, None))
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    save_figure(figure, path)


def _look(number: int) -> tuple[str, str]:
    """Colour and style of the contestant with a number, from 0; there are ten colours."""
    lap, colour = divmod(number, 10)
    return f"C{colour}", ("-", "-.", ":")[lap % 3]


def _draw(panel: Axes, rows: list[dict[str, Any]], name: str, colour: str, style: str) -> None:
    known = [row for row in rows if row["ate"] is not None]
    frames = [row["frames"] for row in known]
    middle = np.array([row["ate"] for row in known])
    spread = np.array([row["ate_spread"] or 0.0 for row in known])
    panel.plot(frames, middle, style, color=colour, label=name, linewidth=1.4, marker=".")
    if spread.any():
        panel.fill_between(
            frames, middle - spread, middle + spread, color=colour, alpha=0.2, linewidth=0
        )
