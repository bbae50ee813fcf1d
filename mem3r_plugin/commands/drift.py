"""`mem3r evaluate --suite drift`: weights and update rules compared over long sequences."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.configuration import load_config
from mem3r_plugin.evaluation.drift import DriftConfig, run_drift
from mem3r_plugin.evaluation.drift.contestants import STANDING_STILL
from mem3r_plugin.evaluation.drift.results import WORLDS
from mem3r_plugin.pictures.drift import drift_curves
from mem3r_plugin.progress import ProgressBars


@dataclass(frozen=True)
class Drift(DriftConfig):
    """Compare weights and update rules: how errors grow with the length of a sequence.

    Every contestant runs once over held-back worlds and real sequences, beside a baseline that stands
    still. Errors are measured over the first so many frames: of the camera's path (ATE) after a Sim(3)
    alignment, of depth with one median scale, and, over all, the Chamfer distance of the fused cloud.
    Writes `drift.json` and `drift.png`. Stopped, or called with more contestants, it makes what is missing.
    """

    suite: Literal["drift"] = "drift"
    """This comparison."""
    config: Path | None = None
    """A YAML file with these options; options given here win over it."""

    def __call__(self) -> None:
        """Run, write and print."""
        with ProgressBars() as progress:
            results, summary = run_drift(self, progress)
        drift_curves(summary, STANDING_STILL, WORLDS, self.output / "drift.png")
        console = Console(highlight=False, soft_wrap=True)
        if not console.is_terminal:  # a file has no width that the numbers would have to fit in
            console.width = 240
        console.print(_table(summary, sorted(self.lengths)))
        console.print(f"{self.output}: drift.json ({len(results.runs)} runs), drift.png")


def _table(summary: dict[str, dict[str, list[dict[str, Any]]]], lengths: Sequence[int]) -> Table:
    """A section for every group, a row for every contestant; ATE at every length, the rest over all."""
    groups = list(dict.fromkeys(group for errors in summary.values() for group in errors))
    title = (
        f"mean over sequences ± deviation over seeds; {WORLDS}: all, in units of {STANDING_STILL}"
    )
    heads = [*(f"ATE {length}" for length in lengths), "ATE all", "AbsRel", "δ1.25", "Chamfer"]
    table = Table("", *heads, title=title)
    table.columns[0].no_wrap = True
    for group in groups:
        for name, errors in summary.items():
            rows = {row["frames"]: row for row in errors.get(group, [])}
            if rows:
                ates = [_cell(rows.get(length, {}), "ate") for length in (*lengths, max(rows))]
                rest = [_cell(rows[max(rows)], key) for key in ("abs_rel", "delta_125", "chamfer")]
                table.add_row(f"{group}: {name}", *ates, *rest)
        table.add_section()
    return table


def _cell(row: dict[str, Any], name: str) -> str:
    value, spread = row.get(name), row.get(f"{name}_spread")
    if value is None:
        return ""
    return f"{value:.3g}" if spread is None else f"{value:.3g} ± {spread:.2g}"


def parse(arguments: Sequence[str]) -> Drift:
    """Read the options of `mem3r evaluate --suite drift`, those of a file first.

    Raises:
        ConfigError: the file is wrong.
    """
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--config", type=Path)
    path = files.parse_known_args(arguments)[0].config
    options = DriftConfig() if path is None else load_config(path, DriftConfig())
    default = Drift(**vars(options), config=path)
    return parse_options(Drift, "evaluate", arguments, default=default)
