"""`mem3r scale`: tell a scan how long its unit of length is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.refine.scale import measure_scale, write_scale
from mem3r_plugin.scan import Scan


@dataclass(frozen=True)
class Scale:
    """Measure the unit of length of a scan and keep it in its `scan.json`.

    Poses and depth stay as they are; every export says what their unit is.
    """

    scan: tyro.conf.Positional[Path]
    """Folder of the scan."""
    known: tyro.conf.Positional[str]
    """cameras:FRAME,FRAME=METRES, points:FRAME,X,Y,FRAME,X,Y=METRES, depth:FOLDER (16-bit PNGs in
    millimetres named like the frames), track:FILE (lines: timestamp x y z), or unknown. A length may
    carry its standard deviation: 1.25+-0.01."""

    def __call__(self) -> None:
        """Measure, keep and report."""
        scan = Scan.open(self.scan)
        scan = write_scale(scan, measure_scale(scan, self.known))
        print(f"{self.scan}: {describe_scale(scan)}")


def parse(arguments: Sequence[str]) -> Scale:
    """Read the options of `mem3r scale`."""
    return parse_options(Scale, "scale", arguments)
