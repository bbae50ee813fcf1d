"""Meshes written as PLY, glTF and OBJ, in pieces, so that they need not fit into memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

VERTEX = np.dtype([("position", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)])
"""A vertex: world coordinates, unit normal, RGB; also its layout in a PLY."""

FACE = np.dtype(("<i4", 3))
"""A triangle: three vertex indices."""

_PLY_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Records:
    """A list of records in a file."""

    file: Path
    """Holds nothing else."""
    dtype: np.dtype[Any]
    """Of one record."""
    count: int
    """How many there are."""

    def chunks(self) -> Iterator[NDArray[Any]]:
        """All records, some at a time."""
        with self.file.open("rb") as stream:
            for start in range(0, self.count, _CHUNK):
                yield np.fromfile(stream, self.dtype, min(_CHUNK, self.count - start))


def write_ply(path: Path, vertices: Records, faces: Records | None) -> None:
    """Write a binary PLY; without `faces`, of points."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {vertices.count}"]
    header += [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    header += [f"property uchar {name}" for name in ("red", "green", "blue")]
    if faces is not None:
        header += [f"element face {faces.count}", "property list uchar int vertex_indices"]
    with path.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode())
        for chunk in vertices.chunks():
            chunk.tofile(file)
        for corners in () if faces is None else faces.chunks():
            records = np.empty(len(corners), _PLY_FACE)
            records["count"], records["corners"] = 3, corners
            records.tofile(file)


def write_obj(path: Path, vertices: Records, faces: Records | None) -> None:
    """Write a Wavefront OBJ with the colour after each position, as MeshLab and Blender read it."""
    with path.open("w", encoding="ascii") as file:
        for chunk in vertices.chunks():
            rows = np.column_stack([chunk["position"], chunk["color"] / 255])
            file.write(_lines("v %.6g %.6g %.6g %.4g %.4g %.4g\n", rows))
        for chunk in vertices.chunks():
            file.write(_lines("vn %.4g %.4g %.4g\n", chunk["normal"]))
        for corners in () if faces is None else faces.chunks():
            twice = np.repeat(corners + 1, 2, axis=1)
            file.write(_lines("f %d//%d %d//%d %d//%d\n", twice))


def _lines(pattern: str, rows: NDArray[Any]) -> str:
    """Every row by a pattern; one long format is several times faster than `np.savetxt`."""
    return (pattern * len(rows)) % tuple(rows.ravel().tolist())


def write_glb(path: Path, vertices: Records, faces: Records | None) -> None:
    """Write a binary glTF 2.0; its node turns the scan's axes (y down) to those of glTF (y up)."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for chunk in vertices.chunks():
        low = np.minimum(low, chunk["position"].min(axis=0))
        high = np.maximum(high, chunk["position"].max(axis=0))
    parts = _gltf_parts(vertices, faces)
    lengths = [size * count for size, count, _ in parts]
    content = _gltf_description(parts, lengths)
    attributes = content["accessors"][0]
    if vertices.count:
        attributes["min"], attributes["max"] = low.tolist(), high.tolist()
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    with path.open("wb") as file:
        total = 12 + 8 + len(text) + 8 + sum(lengths)
        file.write(struct.pack("<4sII", b"glTF", 2, total))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", sum(lengths), b"BIN\0"))
        for _, _, write in parts:
            write(file)


_GltfPart = tuple[int, int, Callable[[BinaryIO], None]]


def _gltf_parts(vertices: Records, faces: Records | None) -> list[_GltfPart]:
    """Bytes a record, number of records and a writer for each buffer view."""

    def vectors(name: str) -> Callable[[BinaryIO], None]:
        def write(file: BinaryIO) -> None:
            for chunk in vertices.chunks():
                np.ascontiguousarray(chunk[name]).tofile(file)

        return write

    def colors(file: BinaryIO) -> None:
        for chunk in vertices.chunks():
            opaque = np.full((len(chunk), 1), 255, np.uint8)
            np.hstack([chunk["color"], opaque]).tofile(file)

    def corners(file: BinaryIO) -> None:
        for chunk in () if faces is None else faces.chunks():
            chunk.tofile(file)

    count = vertices.count
    parts = [(12, count, vectors("position")), (12, count, vectors("normal")), (4, count, colors)]
    return parts if faces is None else [*parts, (12, faces.count, corners)]


def _gltf_description(parts: list[_GltfPart], lengths: list[int]) -> dict[str, Any]:
    """The JSON part: one node with one primitive."""
    float32, uint8, uint32 = 5126, 5121, 5125
    starts = np.cumsum([0, *lengths]).tolist()
    views = [
        {
            "buffer": 0,
            "byteOffset": start,
            "byteLength": length,
            "target": 34963 if i == 3 else 34962,
        }
        for i, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]
    count = parts[0][1]
    accessors: list[dict[str, Any]] = [
        {"bufferView": 0, "componentType": float32, "count": count, "type": "VEC3"},
        {"bufferView": 1, "componentType": float32, "count": count, "type": "VEC3"},
        {
            "bufferView": 2,
            "componentType": uint8,
            "normalized": True,
            "count": count,
            "type": "VEC4",
        },
    ]
    primitive: dict[str, Any] = {
        "attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2},
        "mode": 4,
    }
    if len(parts) == 4:
        indices = {"bufferView": 3, "componentType": uint32, "count": 3 * parts[3][1]}
        accessors.append({**indices, "type": "SCALAR"})
        primitive["indices"] = 3
    return {
        "asset": {"version": "2.0", "generator": "mem3r"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "rotation": [1, 0, 0, 0]}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": starts[-1]}],
    }


WRITERS = {".ply": write_ply, ".glb": write_glb, ".obj": write_obj}
"""Who writes a file of which ending."""
