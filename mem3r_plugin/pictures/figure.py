"""Figures as image files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mem3r_plugin.exports.files import write_file


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, laid out by itself."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format its suffix names.

    Raises:
        OutputError: the file cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lstrip(".") or "png", dpi=120)
    write_file(path, content.getvalue())
