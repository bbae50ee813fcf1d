"""Removing small pieces of a mesh that hang together with nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mem3r_open3d.mesh_files import FACE, VERTEX, Records


def without_islands(
    vertices: Records, faces: Records, min_faces: int, folder: Path
) -> tuple[Records, Records]:
    """The mesh without its connected pieces of fewer than `min_faces` triangles, in new files."""
    parents = np.arange(vertices.count, dtype=np.int32)
    for corners in faces.chunks():
        _join(parents, corners)
    _flatten(parents)
    sizes = np.zeros(vertices.count, np.int32)
    for corners in faces.chunks():
        np.add.at(sizes, parents[corners[:, 0]], 1)
    kept = sizes[parents] >= min_faces
    place = (np.cumsum(kept) - 1).astype("<i4")
    vertex_path, face_path = folder / "large_vertices", folder / "large_faces"
    with vertex_path.open("wb") as file:
        start = 0
        for chunk in vertices.chunks():
            chunk[kept[start : start + len(chunk)]].tofile(file)
            start += len(chunk)
    face_count = 0
    with face_path.open("wb") as file:
        for corners in faces.chunks():
            corners = corners[kept[corners[:, 0]]]
            place[corners].tofile(file)
            face_count += len(corners)
    vertex_count = int(np.count_nonzero(kept))
    return Records(vertex_path, VERTEX, vertex_count), Records(face_path, FACE, face_count)


@njit(nogil=True, cache=True)
def _root(parents: NDArray[np.int32], vertex: int) -> int:
    while parents[vertex] != vertex:
        parents[vertex] = parents[parents[vertex]]
        vertex = parents[vertex]
    return vertex


@njit(nogil=True, cache=True)
def _join(parents: NDArray[np.int32], corners: NDArray[np.int32]) -> None:
    """Union of the pieces that faces touch; the lowest vertex stands for its piece."""
    for f in range(len(corners)):
        first = _root(parents, corners[f, 0])
        for c in range(1, 3):
            other = _root(parents, corners[f, c])
            low, high = min(first, other), max(first, other)
            parents[high] = low
            first = low


@njit(nogil=True, cache=True)
def _flatten(parents: NDArray[np.int32]) -> None:
    for vertex in range(len(parents)):
        parents[vertex] = _root(parents, vertex)
