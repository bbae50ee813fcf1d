"""`mem3r refine`: a scan with poses and depth that geometry has checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.commands.score_table import add_score_rows
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.refine.refine import DEPTH_SHEET, TRAJECTORY, RefineConfig, RefineReport, refine


@dataclass(frozen=True)
class Refine(RefineConfig):
    """Refine a scan: bundle-adjusted poses of every frame, one camera, consistent depth.

    A refinement that was stopped or killed goes on when the same command is given again. The refined
    scan also holds report.json, and trajectory.png and depth.png with the scan before and after.
    """

    def __call__(self) -> None:
        """Refine and report."""
        with ProgressBars() as progress:
            scan = refine(self, progress)
        report = RefineReport.load(scan.path)
        poses = report.poses
        console = Console(highlight=False, soft_wrap=True)
        console.print(_table(report))
        console.print(
            f"{scan.path}: {poses.frames} frames, {poses.mapped} mapped, "
            f"{poses.tracked} tracked, {poses.carried} carried along; "
            f"{poses.loops_confirmed} of {poses.loops_tried} loops confirmed, "
            f"{poses.loops_contradicted} of them false after all"
        )
        console.print(f"kept: {report.reason}")
        console.print(f"look at {DEPTH_SHEET} and {TRAJECTORY} there: before and after")
        console.print(describe_scale(scan), markup=False)
        for warning in (*poses.warnings, *report.score.warnings):
            console.print(f"note: {warning}", markup=False)


def _table(report: RefineReport) -> Table:
    """The score before and after."""
    table = Table("without ground truth", "before", "refined")
    add_score_rows(table, report.score_before, report.score)
    return table


def parse(arguments: Sequence[str]) -> Refine:
    """Read the options of `mem3r refine`."""
    return parse_options(Refine, "refine", arguments)
