"""Replica as rendered for iMAP and NICE-SLAM: `office0` with `results/` and `traj.txt`.

`results/frame000000.jpg` and `results/depth000000.png`; a line of `traj.txt` is a camera-to-world
matrix; `cam_params.json` lies one folder up. Sucar et al., "iMAP", ICCV 2021.
"""

from __future__ import annotations

from pathlib import Path

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.layouts.files import (
    at_rate,
    existing,
    json_object,
    numbers,
    pictures,
    stored_depth,
)
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import Intrinsics

_CAMERA = {"w": 1200, "h": 680, "fx": 600.0, "fy": 600.0, "cx": 599.5, "cy": 339.5, "scale": 6553.5}
"""What `cam_params.json` says for all scenes, where it was not kept; pixel centres at integers."""


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's files."""
    return (directory / "traj.txt").is_file() and (directory / "results").is_dir()


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`.

    Raises:
        SourceError: a file is missing or damaged, or pictures and poses differ in number.
    """
    images = pictures(directory / "results", "frame*")
    poses = numbers(directory / "traj.txt", columns=16).reshape(-1, 4, 4)
    if len(images) != len(poses):
        raise SourceError(f"{directory} has {len(images)} pictures but {len(poses)} poses")
    file = directory.resolve().parent / "cam_params.json"
    camera = json_object(file).get("camera", {}) if file.is_file() else _CAMERA
    try:
        intrinsics = Intrinsics(
            float(camera["fx"]),
            float(camera["fy"]),
            float(camera["cx"]) + 0.5,
            float(camera["cy"]) + 0.5,
            int(camera["w"]),
            int(camera["h"]),
        )
        decode = stored_depth(float(camera["scale"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{file} lacks a usable value: {error}") from error
    depth = [image.with_name(f"depth{image.stem.removeprefix('frame')}.png") for image in images]
    return PosedSequence(
        directory, images, at_rate(len(images)), poses, intrinsics, existing(depth), decode
    )
