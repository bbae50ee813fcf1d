"""`mem3r process`: from a video to a project for nerfstudio and COLMAP, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mem3r_nerfstudio.process import ProcessConfig, process
from mem3r_plugin.commands.options import parse_options


@dataclass(frozen=True)
class Process(ProcessConfig):
    """Run, refine and export: video in, project for nerfstudio, COLMAP and gsplat out.

    A call that was stopped or killed goes on when the same command is given again.
    """

    def __call__(self) -> None:
        """Process and say what to do with it."""
        project = process(self)
        print(f"{project}: pictures, transforms.json, seed points, depth, colmap/sparse/0")
        print(f"train with: ns-train mem3r-splatfacto --data {project}")


def parse(arguments: Sequence[str]) -> Process:
    """Read the options of `mem3r process`."""
    return parse_options(Process, "process", arguments)
