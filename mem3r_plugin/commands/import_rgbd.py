"""`mem3r import-rgbd`: pictures with known depth and poses as a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.imports import ImportRgbdConfig, import_rgbd


@dataclass(frozen=True)
class ImportRgbd(ImportRgbdConfig):
    """Make a scan of a posed RGB-D sequence, without a network.

    An import that was stopped or killed leaves a valid scan; the same command with --resume goes on.
    """

    def __call__(self) -> None:
        """Import and report."""
        scan = import_rgbd(self)
        print(f"{self.output}: {len(scan)} frames")


def parse(arguments: Sequence[str]) -> ImportRgbd:
    """Read the options of `mem3r import-rgbd`."""
    return parse_options(ImportRgbd, "import-rgbd", arguments)
