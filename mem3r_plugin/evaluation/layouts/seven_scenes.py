"""7-Scenes: a folder `seq-01` with `frame-000000.{color.png,depth.png,pose.txt}` and so on.

Shotton et al., "Scene coordinate regression forests for camera relocalization in RGB-D images", CVPR
2013. The data set's page gives no calibration but the depth camera's nominal one (focal length 585,
principal point (320, 240)), which benchmarks use for both cameras; depth is not registered to colour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mem3r_plugin.evaluation.layouts.files import (
    at_rate,
    existing,
    numbers,
    picture_size,
    pictures,
    stored_depth,
)
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import Intrinsics

_COLOUR, _DEPTH, _POSE = ".color.png", ".depth.png", ".pose.txt"
_DEPTH_PER_METRE = 1000.0
_UNKNOWN_DEPTH = 65535


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's files."""
    return any(directory.glob(f"frame-*{_POSE}"))


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`.

    Raises:
        SourceError: a file is missing or damaged.
    """
    images = pictures(directory, f"frame-*{_COLOUR}")
    frames = [image.name.removesuffix(_COLOUR) for image in images]
    poses = [numbers(directory / f"{frame}{_POSE}", columns=4) for frame in frames]
    camera = Intrinsics(585.0, 585.0, 320.0, 240.0, *picture_size(images[0]))
    return PosedSequence(
        directory,
        images,
        at_rate(len(images)),
        np.stack(poses),
        camera,
        existing([directory / f"{frame}{_DEPTH}" for frame in frames]),
        stored_depth(_DEPTH_PER_METRE, _UNKNOWN_DEPTH),
    )
