"""nerfstudio: a folder with `transforms.json`, camera axes of OpenGL.

Tancik et al., "Nerfstudio", SIGGRAPH 2023; also instant-ngp's files of this name. Depth maps
(`depth_file_path`) are 16-bit millimetres. Frames are taken in the order of their file names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.layouts.files import (
    at_rate,
    json_object,
    picture_size,
    stored_depth,
)
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.stream.images import natural_key

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_DEPTH_PER_METRE = 1000.0


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's file."""
    return (directory / "transforms.json").is_file()


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`.

    Raises:
        SourceError: a file is missing or damaged.
    """
    file = directory / "transforms.json"
    record = json_object(file)
    try:
        frames = sorted(record["frames"], key=lambda frame: natural_key(Path(frame["file_path"])))
        images = tuple(_picture(directory / frame["file_path"]) for frame in frames)
        poses = np.array([frame["transform_matrix"] for frame in frames], np.float64)
        poses = poses.reshape(-1, 4, 4) @ _OPENCV_FROM_OPENGL
        camera = _intrinsics(frames[0] | record, images[0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SourceError(f"{file} lacks a usable value: {error!r}") from error
    depth = tuple(
        directory / frame["depth_file_path"] if "depth_file_path" in frame else None
        for frame in frames
    )
    decode = stored_depth(_DEPTH_PER_METRE)
    return PosedSequence(directory, images, at_rate(len(images)), poses, camera, depth, decode)


def _picture(file: Path) -> Path:
    """The file itself; Blender's files leave the suffix out."""
    return file if file.suffix else file.with_suffix(".png")


def _intrinsics(record: dict[str, Any], picture: Path) -> Intrinsics:
    """The camera of the first frame; pixel centres lie at half-integers in these files."""
    width, height = picture_size(picture)
    if "fl_x" in record:
        fx = float(record["fl_x"])
    else:
        fx = width / 2 / np.tan(float(record["camera_angle_x"]) / 2)
    return Intrinsics(
        fx,
        float(record.get("fl_y", fx)),
        float(record.get("cx", width / 2)),
        float(record.get("cy", height / 2)),
        width,
        height,
    )
