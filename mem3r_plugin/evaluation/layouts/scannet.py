"""ScanNet, as its SensReader writes it: `color/0.jpg`, `depth/0.png`, `pose/0.txt`, `intrinsic/`.

Dai et al., "ScanNet: richly-annotated 3D reconstructions of indoor scenes", CVPR 2017. Lost poses are
stored as infinities. Depth (640x480) shows what the larger colour pictures do.
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

_DEPTH_PER_METRE = 1000.0


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's files."""
    return all((directory / name).is_dir() for name in ("color", "pose", "intrinsic"))


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`.

    Raises:
        SourceError: a file is missing or damaged.
    """
    images = pictures(directory / "color")
    poses = np.stack([numbers(directory / "pose" / f"{i.stem}.txt", columns=4) for i in images])
    poses[~np.isfinite(poses).all(axis=(1, 2))] = np.nan
    matrix = numbers(directory / "intrinsic" / "intrinsic_color.txt", columns=4)
    camera = Intrinsics(
        matrix[0, 0],
        matrix[1, 1],
        matrix[0, 2] + 0.5,
        matrix[1, 2] + 0.5,
        *picture_size(images[0]),
    )
    return PosedSequence(
        directory,
        images,
        at_rate(len(images)),
        poses,
        camera,
        existing([directory / "depth" / f"{image.stem}.png" for image in images]),
        stored_depth(_DEPTH_PER_METRE),
    )
