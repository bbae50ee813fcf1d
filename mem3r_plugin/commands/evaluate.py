"""`mem3r evaluate`: a scan measured against the truth, or against itself; or a suite of many runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from mem3r_plugin.commands import drift
from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.commands.score_table import add_score_rows
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.evaluation import PROTOCOLS, Layout, PosedSequence, evaluate, load_sequence
from mem3r_plugin.evaluation.scan import posed_frames
from mem3r_plugin.exports.files import write_file
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.pictures import trajectory_plot
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.refine.score import Tracks, score_scan
from mem3r_plugin.scan import Scan

_ROWS = (
    ("camera position (ATE)", "trajectory", "ate_rmse"),
    ("step between frames (RPE)", "trajectory", "rpe_translation"),
    ("turn between frames (RPE), degrees", "trajectory", "rpe_rotation"),
    ("depth, one scale: AbsRel", "depth.scaled", "abs_rel"),
    ("depth, one scale: share within 25 %", "depth.scaled", "delta_125"),
    ("depth, one scale: median error, confident pixels", "depth.confident", "median_rel"),
    ("share of these pixels", "depth", "confident_share"),
    ("depth, scale of least absolute error: AbsRel", "depth.least_absolute.scaled", "abs_rel"),
    ("the same, confident pixels: median error", "depth.least_absolute.confident", "median_rel"),
    ("depth, metric: AbsRel", "depth.metric", "abs_rel"),
    ("surface: Chamfer", "reconstruction", "chamfer"),
    ("surface: accuracy", "reconstruction", "accuracy"),
    ("surface: completeness", "reconstruction", "completeness"),
    ("surface: normal consistency", "reconstruction", "normal_consistency"),
)


@dataclass(frozen=True)
class Evaluate:
    """Measure a scan against known poses and depth, or without any, how well it agrees with itself.

    Writes `evaluation.json` and `trajectory.png`, the camera's path beside the true one. Lengths are in
    the truth's unit, paths and surfaces aligned by a similarity. Without a truth the score counts how
    much the depth of overlapping pictures disagrees and, for a refined scan, by how many pixels its
    points miss the pictures, and names stretches that are weak.

    `mem3r evaluate --suite drift` compares weights and update rules in place of measuring a scan.
    """

    scan: tyro.conf.Positional[Path]
    """Folder of the scan."""
    truth: tyro.conf.Positional[Path | None] = None
    """Folder of the sequence that the scan was made from."""
    layout: Layout | Literal["auto"] = "auto"
    """How the truth is stored."""
    protocol: str = "whole"
    """What to compare: whole, or the protocol of a paper's table such as scannet-long."""
    output: Path = Path("evaluation")
    """Folder for what is written; an earlier evaluation there is replaced."""

    def __call__(self) -> None:
        """Measure, write and print."""
        if self.protocol not in PROTOCOLS:
            raise ConfigError(
                f"no protocol is called {self.protocol!r}; there are {', '.join(PROTOCOLS)}"
            )
        scan = Scan.open(self.scan)
        console = Console(highlight=False, soft_wrap=True)
        if self.truth is None:
            self._score(scan, console)
        else:
            self._compare(scan, load_sequence(self.truth, self.layout), console)
        console.print(f"{self.output}: evaluation.json, trajectory.png")

    def _compare(self, scan: Scan, sequence: PosedSequence, console: Console) -> None:
        report = {"protocol": self.protocol}
        report |= evaluate(scan, sequence, PROTOCOLS[self.protocol])
        frames, matches = posed_frames(scan, sequence)
        truth = np.full((len(scan), 4, 4), np.nan)
        truth[frames] = sequence.camera_to_world[matches]
        self._write(report)
        trajectory_plot(scan, self.output / "trajectory.png", truth)
        console.print(_table(report))

    def _score(self, scan: Scan, console: Console) -> None:
        structure = scan.structure()
        tracks = None
        if structure is not None:
            tracks = Tracks(structure.frames, structure.rows, structure.pixels)
        with ProgressBars() as progress:
            score = score_scan(scan, tracks, progress)
        self._write({"scan": str(scan.path), "scale": describe_scale(scan), "score": asdict(score)})
        trajectory_plot(scan, self.output / "trajectory.png")
        table = Table("without ground truth", f"{len(scan)} frames", title=str(scan.path))
        add_score_rows(table, score)
        console.print(table)
        for warning in score.warnings:
            console.print(f"note: {warning}", markup=False)
        if tracks is None:
            console.print("note: only `mem3r refine` finds points that can judge the poses")

    def _write(self, report: dict[str, Any]) -> None:
        text = json.dumps(report, indent=2, allow_nan=False) + "\n"
        write_file(self.output / "evaluation.json", text.encode())


def _table(report: dict[str, Any]) -> Table:
    """One column per length that was compared."""
    results = report["results"]
    heads = [f"{result['frames']} frames" for result in results]
    table = Table("error", *heads, title=f"{report['scan']} against {report['truth']}")
    for label, group, key in _ROWS:
        cells = [_cell(result, group, key) for result in results]
        if any(cells):
            table.add_row(label, *cells)
    return table


def _cell(result: dict[str, Any], group: str, key: str) -> str:
    errors: Any = result
    for part in group.split("."):
        errors = (errors or {}).get(part)
    return f"{errors[key]:.4g}" if errors else ""


def parse(arguments: Sequence[str]) -> Evaluate | drift.Drift:
    """Read the options of `mem3r evaluate`, or those of the suite that is asked for."""
    suites = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    suites.add_argument("--suite")
    if suites.parse_known_args(arguments)[0].suite is not None:
        return drift.parse(arguments)
    return parse_options(Evaluate, "evaluate", arguments)
