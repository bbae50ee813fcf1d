"""This package's own layout: `rgb/`, `poses.txt` (TUM), `meta.json` and, where known, `depth/`.

`training.worlds.write_sequence` writes it. `meta.json` gives the intrinsics with pixel centres at
integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.layouts.files import json_object, stored_depth
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.exports.tum import read_tum
from mem3r_plugin.geometry import Intrinsics


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's files."""
    return (directory / "meta.json").is_file() and (directory / "poses.txt").is_file()


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`.

    Raises:
        SourceError: a file is missing or damaged, or pictures and poses differ in number.
    """
    meta = json_object(directory / "meta.json")
    images = tuple(sorted((directory / "rgb").glob("*")))
    timestamps, poses = read_tum(directory / "poses.txt")
    if len(images) != len(poses):
        raise SourceError(f"{directory} has {len(images)} pictures but {len(poses)} poses")
    try:
        camera, scale = _intrinsics(meta), meta.get("depth_scale")
        if scale is None:
            return PosedSequence(directory, images, timestamps, poses, camera)
        depth = tuple(directory / "depth" / f"{image.stem}.png" for image in images)
        decode = stored_depth(float(scale))
        return PosedSequence(directory, images, timestamps, poses, camera, depth, decode)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{directory / 'meta.json'} lacks a usable value: {error}") from error


def _intrinsics(meta: dict[str, Any]) -> Intrinsics:
    return Intrinsics(
        float(meta["fx"]),
        float(meta["fy"]),
        float(meta["cx"]) + 0.5,
        float(meta["cy"]) + 0.5,
        int(meta["width"]),
        int(meta["height"]),
    )
