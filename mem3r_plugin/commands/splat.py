"""`mem3r splat`: Gaussian splats from a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mem3r_gsplat import SplatConfig, splat
from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.progress import ProgressBars


@dataclass(frozen=True)
class Splat(SplatConfig):
    """Optimise Gaussian splats from a scan with gsplat; needs a CUDA GPU."""

    def __call__(self) -> None:
        """Optimise and report."""
        with ProgressBars() as progress:
            report = splat(self, progress)
        print(f"{self.output}: {report.gaussians} Gaussians after {report.steps} steps")
        if report.psnr_held_out is not None:
            print(f"PSNR {report.psnr_held_out:.2f} dB over {report.held_out} pictures held out")


def parse(arguments: Sequence[str]) -> Splat:
    """Read the options of `mem3r splat`."""
    return parse_options(Splat, "splat", arguments)
