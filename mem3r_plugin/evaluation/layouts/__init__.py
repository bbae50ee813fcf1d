"""The folder layouts of benchmarks, each read as a `PosedSequence`.

A layout is a module with `matches(directory)`, whether a folder looks like it, and `read(directory)`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.sequence import PosedSequence

Layout = Literal[
    "mem3r",
    "bonn",
    "tum",
    "7scenes",
    "scannet",
    "sintel",
    "replica",
    "kitti",
    "nerfstudio",
    "colmap",
]
"""The layouts, in the order in which a folder is tried."""

_MODULES = {"7scenes": "seven_scenes"}


def load_sequence(
    directory: str | Path, layout: Layout | Literal["auto"] = "auto"
) -> PosedSequence:
    """Read the truth in a folder; depth maps are read when asked for.

    Args:
        directory: Folder of one sequence; each layout's module says which.
        layout: Its layout; `auto` takes the first that fits.

    Raises:
        SourceError: the folder fits no layout, or a file is missing or damaged.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise SourceError(f"no posed sequence: {directory} is not a folder")
    for name in get_args(Layout) if layout == "auto" else (layout,):
        module = import_module(f"{__name__}.{_MODULES.get(name, name)}")
        if layout != "auto" or module.matches(directory):
            return module.read(directory)
    raise SourceError(
        f"no posed sequence: {directory} has none of the layouts {', '.join(get_args(Layout))}"
    )
