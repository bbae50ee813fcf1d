"""`mem3r splat`: Gaussian splats from a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mem3r_gsplat import SplatConfig, splat
from mem3r_plugin.commands.options import parse_options


@dataclass(frozen=True)
class Splat(SplatConfig):
    """Optimise Gaussian splats from a scan with gsplat; needs a CUDA GPU."""

    def __call__(self) -> None:
        """Optimise and report."""
        console = Console(stderr=True)
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns.append(TimeRemainingColumn())
        bar = Progress(*columns, console=console, disable=not console.is_terminal)
        task = bar.add_task("steps", total=None)
        with bar:
            report = splat(
                self,
                lambda done, total, text: bar.update(
                    task, completed=done, total=total, description=text
                ),
            )
        print(f"{self.output}: {report.gaussians} Gaussians after {report.steps} steps")
        if report.psnr_held_out is not None:
            print(f"PSNR {report.psnr_held_out:.2f} dB over {report.held_out} pictures held out")


def parse(arguments: Sequence[str]) -> Splat:
    """Read the options of `mem3r splat`."""
    return parse_options(Splat, "splat", arguments)
