"""`mem3r refine`: a scan with poses that geometry has checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.refine.refine import REPORT, RefineConfig, refine


@dataclass(frozen=True)
class Refine(RefineConfig):
    """Refine a scan: bundle-adjusted poses of every frame, one camera, depth at their scale.

    A refinement that was stopped or killed goes on when the same command is given again.
    """

    def __call__(self) -> None:
        """Refine and report."""
        scan = refine(self, tell=lambda message: print(message, file=sys.stderr))
        report = json.loads((scan.path / REPORT).read_text())
        poses = report["poses"]
        print(
            f"{scan.path}: {poses['frames']} frames, {poses['mapped']} mapped, "
            f"{poses['tracked']} tracked, {poses['carried']} carried along"
        )
        if report["refused"]:
            print("note: the refinement explained the pictures worse than the scan and was refused")
        for warning in (*poses["warnings"], *report["score"]["warnings"]):
            print(f"note: {warning}")


def parse(arguments: Sequence[str]) -> Refine:
    """Read the options of `mem3r refine`."""
    return parse_options(Refine, "refine", arguments)
