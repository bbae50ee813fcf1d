"""`transforms.json`, read as nerfstudio documents it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_check.reading import Reading, Unreadable, View
from mem3r_nerfstudio.axes import from_nerfstudio
from mem3r_nerfstudio.export import TRANSFORMS
from mem3r_nerfstudio.maps import DEPTH_UNIT
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points

_PLY_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "uchar": "u1", "uint8": "u1"}


def read_transforms(project: Path) -> Reading:
    """Read the project's cameras and its seed points.

    Raises:
        Unreadable: the file is damaged, or nerfstudio would refuse it.
    """
    try:
        record = json.loads((project / TRANSFORMS).read_text())
        return _reading(project, record)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Unreadable(f"{TRANSFORMS} or a file it names is damaged: {error!r}") from error


def _reading(project: Path, record: dict[str, Any]) -> Reading:
    applied = np.vstack([record.get("applied_transform", np.eye(4)[:3]), [0, 0, 0, 1]])
    frames = record["frames"]
    for key in ("depth_file_path", "mask_path"):
        missing = [frame["file_path"] for frame in frames if key not in frame]
        if 0 < len(missing) < len(frames):
            raise Unreadable(f"{len(missing)} frames have no {key}, beginning with {missing[0]}")
    views = {}
    for frame in sorted(frames, key=lambda frame: str(frame["file_path"])):
        pose = np.array(frame["transform_matrix"], np.float64)
        if pose.shape != (4, 4):
            raise ValueError(f"transform_matrix of {frame['file_path']} is not 4x4")
        name = Path(frame["file_path"]).name
        if name in views:
            raise Unreadable(f"two frames are called {name}")
        depth = frame.get("depth_file_path")
        views[name] = View(
            project / frame["file_path"],
            _camera({**frame, **record}),  # what stands at the top counts
            from_nerfstudio(pose, applied),
            None if depth is None else project / depth,
        )
    points, colours = np.empty((0, 3)), np.empty((0, 3), np.uint8)
    if "ply_file_path" in record:
        points, colours = _read_ply(project / record["ply_file_path"])
        points = transform_points(invert_pose(applied), points)
    return Reading(TRANSFORMS, views, points, colours, DEPTH_UNIT)


def _camera(record: dict[str, Any]) -> Intrinsics:
    return Intrinsics(
        float(record["fl_x"]),
        float(record["fl_y"]),
        float(record["cx"]),
        float(record["cy"]),
        int(record["w"]),
        int(record["h"]),
    )


def _read_ply(file: Path) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Points and colours of a binary PLY with nothing but vertices."""
    header, found, body = file.read_bytes().partition(b"end_header\n")
    if not found or b"binary_little_endian" not in header:
        raise Unreadable(f"{file.name} is no binary PLY")
    words = [line.split() for line in header.decode().splitlines()]
    count = next(int(line[2]) for line in words if line[:2] == ["element", "vertex"])
    properties = [(line[2], _PLY_TYPES[line[1]]) for line in words if line[0] == "property"]
    dtype = np.dtype(properties)
    if len(body) != count * dtype.itemsize:
        raise Unreadable(f"{file.name} holds {len(body) // dtype.itemsize} of {count} points")
    vertices = np.frombuffer(body, dtype)
    points = np.stack([vertices[axis] for axis in ("x", "y", "z")], axis=1).astype(np.float64)
    return points, np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
