"""What is compared in the tables of papers, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Measure = Literal["trajectory", "depth", "reconstruction"]


@dataclass(frozen=True)
class Protocol:
    """Which frames of a scan are compared, and what of them."""

    measures: tuple[Measure, ...] = ("trajectory", "depth", "reconstruction")
    """What is compared, where the truth knows it."""
    lengths: tuple[int, ...] = ()
    """Compare the first so many frames, each number in turn; the whole scan if there is none. As the
    front end sees no later frame, the beginning of a long scan is what a short one would be."""
    stride: int | None = None
    """The scan takes every so manieth picture of the sequence; None: as it likes."""


_LONG = (50, 200, 400, 600, 800, 1000)

PROTOCOLS: dict[str, Protocol] = {
    "whole": Protocol(),
    "scannet-long": Protocol(("trajectory",), _LONG, stride=3),
    "tum-long": Protocol(("trajectory",), _LONG, stride=1),
    "kitti-depth-long": Protocol(("depth",), (500,), stride=1),
    "bonn-depth-long": Protocol(("depth",), (500,), stride=1),
    "7scenes-long": Protocol(("reconstruction",), (400,)),
    "sintel": Protocol(("trajectory", "depth"), stride=1),
}
"""`whole` measures all there is over all frames. The `-long` ones are the tables of Mem3R (arXiv
2604.07279) and TTT3R (arXiv 2509.26645), whose prepared data are named `scannet_s3_*` and `tum_s1_*` for
their strides; `sintel` is that of CUT3R (arXiv 2501.12387)."""
