"""`mem3r check`: does every program that reads an exported project see the same in it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mem3r_check import CheckReport, ReaderReport, check_project
from mem3r_check.check import CHECKS
from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.errors import ProjectError
from mem3r_plugin.progress import ProgressBars


@dataclass(frozen=True)
class Check:
    """Read a COLMAP, 3DGS or nerfstudio project as every program would, and compare what they see.

    pycolmap, gsplat's example loader, 3DGS and nerfstudio's two dataparsers (where nerfstudio is
    installed) each read the project. Points have to project to where the tracks saw them, lie as deep as
    the depth maps say and have the colours of the pictures. What does not fit is named, and the command
    then fails.
    """

    project: tyro.conf.Positional[Path]
    """Folder of the project."""

    def __call__(self) -> None:
        """Check and report.

        Raises:
            ProjectError: something is wrong with the project.
        """
        with ProgressBars() as progress:
            report = check_project(self.project, progress)
        console = Console(highlight=False)
        console.print(_table(report))
        for reader in report.readers:
            skipped = () if reader.not_checked is None else (f"not checked: {reader.not_checked}",)
            for note in (*skipped, *reader.notes):
                console.print(f"note: {reader.reader}: {note}", markup=False, soft_wrap=True)
        for problem in report.problems:
            console.print(f"wrong: {problem}", style="red", markup=False, soft_wrap=True)
        if not report.passed:
            failed = [reader.reader for reader in report.readers if reader.problems]
            raise ProjectError(
                f"{self.project} is not right for {', '.join(failed)}; what is wrong stands above. "
                "Export it again"
            )


def _table(report: CheckReport) -> Table:
    table = Table(
        title=f"How programs read {report.project}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in ("reader", *CHECKS, ""):
        table.add_column(heading, no_wrap=True)
    for reader in report.readers:
        table.add_row(reader.reader, *_cells(reader), _result(reader))
    return table


def _cells(reader: ReaderReport) -> list[Text]:
    cells = []
    for check in CHECKS:
        verdict = reader.verdicts.get(check)
        bad = verdict is not None and verdict.problem is not None
        cells.append(Text("" if verdict is None else verdict.value, "bold red" if bad else ""))
    return cells


def _result(reader: ReaderReport) -> Text:
    if reader.not_checked is not None:
        return Text("not checked", "yellow")
    if reader.unreadable is not None:
        return Text("unreadable", "bold red")
    return Text("FAILED", "bold red") if reader.problems else Text("ok", "green")


def parse(arguments: Sequence[str]) -> Check:
    """Read the options of `mem3r check`."""
    return parse_options(Check, "check", arguments)
