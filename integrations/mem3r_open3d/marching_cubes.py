"""Marching cubes (Lorensen and Cline, SIGGRAPH 1987) over a dense piece of a volume.

Which triangles a cube gets follows from its faces: on each face, the line between inside and outside goes
around every run of inside corners. Two cubes thus always agree on the face between them, so the surface
has no holes, which the tables in common use do not promise.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

Mesh = tuple[
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.int32],
    NDArray[np.bool_],
]
"""Positions, normals and colours (V, 3), faces (F, 3), and which vertices lie on the rim (V,)."""

# Corner c of a cube is at x = c & 1, y = c >> 1 & 1, z = c >> 2.
_FACES = [(0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6)]
"""The corners of each face, anticlockwise seen from outside."""
_EDGES = [(c, c | 1 << axis) for axis in range(3) for c in range(8) if not c >> axis & 1]
"""Lower and upper corner of each edge; four along x, four along y, four along z."""
_MOST_CORNERS = 3 * 5
"""Of the triangles of a cube."""


def _case_triangles(case: int) -> list[tuple[int, ...]]:
    """The triangles, as edges, of a cube whose corners in the bits of `case` are inside."""
    follows: dict[int, int] = {}
    faces_of = {edge: set[int]() for edge in range(12)}
    for number, face in enumerate(_FACES):
        crossings = []
        for first, second in pairwise((*face, face[0])):
            edge = _EDGES.index((min(first, second), max(first, second)))
            faces_of[edge].add(number)
            if (case >> first ^ case >> second) & 1:
                crossings.append((edge, bool(case >> second & 1)))
        for i, (edge, entering) in enumerate(crossings):
            if entering:
                follows[edge] = crossings[(i + 1) % len(crossings)][0]
    triangles = []
    while follows:
        start, edge = follows.popitem()
        loop = [start]
        while edge != start:
            loop.append(edge)
            edge = follows.pop(edge)
        triangles += _fan(loop, faces_of)
    return triangles


def _fan(loop: list[int], faces_of: dict[int, set[int]]) -> list[tuple[int, ...]]:
    """A loop cut into triangles from a corner from which no cut lies in a face of the cube.

    A neighbour could make the same cut there, and four triangles would meet in it.
    """
    for turn in range(len(loop)):
        fan = loop[turn:] + loop[:turn]
        if not any(faces_of[fan[0]] & faces_of[edge] for edge in fan[2:-1]):
            return [(fan[0], a, b) for a, b in pairwise(fan[1:])]
    raise AssertionError(f"every cut of {loop} lies in a face")


@cache
def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Triangle corners of each case (256,), the edges they lie on (256, 15), lower ends of edges (12,)."""
    counts = np.zeros(256, np.int64)
    edges = np.zeros((256, _MOST_CORNERS), np.int64)
    for case in range(256):
        corners = [edge for triangle in _case_triangles(case) for edge in triangle]
        counts[case] = len(corners)
        edges[case, : len(corners)] = corners
    return counts, edges, np.array([lower for lower, _ in _EDGES])


def marching_cubes(
    tsdf: NDArray[np.float32],
    color: NDArray[np.float32],
    first: NDArray[np.float64],
    voxel_size: float,
) -> Mesh:
    """The surface between negative and positive voxels, without that of the outermost layer of cubes.

    The outermost layer, the rim, only lends its triangles to the normals, which are those of the faces
    around a vertex, weighted by area. A vertex has the same bits whichever piece it is taken from. Where
    the surface goes through a voxel there is one vertex, and no triangle without area.

    Args:
        tsdf: Signed distance, shape (n, n, n), voxels in z, y, x order; NaN where nothing was seen.
        color: RGB from 0 to 255, shape (n, n, n, 3); anything where nothing was seen.
        first: x, y, z of the first voxel, in voxels.
        voxel_size: Distance of two voxels.

    Returns:
        World coordinates (V, 3), unit normals to the positive side (V, 3), colours (V, 3), vertex indices
        anticlockwise seen from there (F, 3), and which vertices triangles of the rim use as well (V,).
    """
    return _march(tsdf, color, first, voxel_size, *_tables())


@njit(nogil=True, cache=True)
def _cases(tsdf: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Which corners of every cube are inside, in bits; 0 as well where one was never seen."""
    cubes = tsdf.shape[0] - 1
    cases = np.zeros((cubes, cubes, cubes), np.uint8)
    for z in range(cubes):
        for y in range(cubes):
            before, before_seen = 0, False
            for x in range(cubes + 1):
                a, b = tsdf[z, y, x], tsdf[z, y + 1, x]
                c, d = tsdf[z + 1, y, x], tsdf[z + 1, y + 1, x]
                seen = a == a and b == b and c == c and d == d  # NaN is not itself
                now = (a < 0) | (b < 0) << 2 | (c < 0) << 4 | (d < 0) << 6
                if x > 0 and seen and before_seen:
                    case = before | now << 1
                    cases[z, y, x - 1] = case if case < 255 else 0
                before, before_seen = now, seen
    return cases


@njit(nogil=True, cache=True)
def _crossed(cases: NDArray[np.uint8], rim: bool) -> NDArray[np.int64]:
    """x, y, z of the cubes (n, 3) that the surface goes through, of those on the rim or of the others."""
    last = len(cases) - 1
    found = np.empty((np.count_nonzero(cases), 3), np.int64)
    count = 0
    for z in range(last + 1):
        for y in range(last + 1):
            for x in range(last + 1):
                on_rim = min(x, y, z) == 0 or max(x, y, z) == last
                if cases[z, y, x] and on_rim == rim:
                    found[count] = x, y, z
                    count += 1
    return found[:count]


@njit(nogil=True, cache=True)
def _march(
    tsdf: NDArray[np.float32],
    color: NDArray[np.float32],
    first: NDArray[np.float64],
    voxel_size: float,
    counts: NDArray[np.int64],
    edges: NDArray[np.int64],
    lower_ends: NDArray[np.int64],
) -> Mesh:
    cases = _cases(tsdf)
    most = 0
    for case in cases.flat:
        most += counts[case]
    positions, colors = np.empty((most, 3), np.float32), np.empty((most, 3), np.float32)
    faces = np.empty((most // 3, 3), np.int32)
    # The vertex on the edge from a voxel along x, y and z, and the one in the voxel itself.
    numbers = np.full((*tsdf.shape, 4), -1, np.int32)
    vertices = triangles = own_vertices = own_triangles = 0
    for rim in (False, True):
        own_vertices, own_triangles = vertices, triangles
        for x, y, z in _crossed(cases, rim):
            case = cases[z, y, x]
            for corner in range(counts[case]):
                edge = edges[case, corner]
                lower = lower_ends[edge]
                i, j, k = x + (lower & 1), y + (lower >> 1 & 1), z + (lower >> 2)
                i, j, k, axis, along = _vertex_place(tsdf, first, voxel_size, i, j, k, edge // 4)
                number = numbers[k, j, i, axis]
                if number < 0:
                    number = numbers[k, j, i, axis] = vertices
                    _place_vertex(
                        color,
                        first,
                        voxel_size,
                        i,
                        j,
                        k,
                        axis,
                        along,
                        positions[number],
                        colors[number],
                    )
                    vertices += 1
                faces[triangles, corner % 3] = number
                if corner % 3 == 2:
                    a, b, c = faces[triangles]
                    triangles += a != b and b != c and c != a  # else it is a line or a point
    shared = np.zeros(vertices, np.bool_)
    for triangle in range(own_triangles, triangles):
        for corner in range(3):
            shared[faces[triangle, corner]] = True
    return (
        positions[:own_vertices].copy(),
        _normals(positions, faces[:triangles], own_vertices),
        colors[:own_vertices].copy(),
        faces[:own_triangles].copy(),
        shared[:own_vertices].copy(),
    )


@njit(nogil=True, cache=True, inline="always")
def _vertex_place(
    tsdf: NDArray[np.float32],
    first: NDArray[np.float64],
    voxel_size: float,
    i: int,
    j: int,
    k: int,
    axis: int,
) -> tuple[int, int, int, int, float]:
    """Voxel, axis and how far along it the surface crosses an edge; axis 3 is the voxel itself."""
    di, dj, dk = int(axis == 0), int(axis == 1), int(axis == 2)
    value = np.float64(tsdf[k, j, i])
    along = value / (value - tsdf[k + dk, j + dj, i + di])
    place = first[axis] + i * di + j * dj + k * dk
    crossing = np.float32((place + along) * voxel_size)
    if crossing == np.float32((place + 1) * voxel_size):
        return i + di, j + dj, k + dk, 3, 0.0
    if crossing == np.float32(place * voxel_size):
        return i, j, k, 3, 0.0
    return i, j, k, axis, along


@njit(nogil=True, cache=True, inline="always")
def _place_vertex(
    color: NDArray[np.float32],
    first: NDArray[np.float64],
    voxel_size: float,
    i: int,
    j: int,
    k: int,
    axis: int,
    along: float,
    position: NDArray[np.float32],
    paint: NDArray[np.float32],
) -> None:
    """Write coordinates (3,) and colour (3,) of what `_vertex_place` says."""
    position[0] = (first[0] + i) * voxel_size
    position[1] = (first[1] + j) * voxel_size
    position[2] = (first[2] + k) * voxel_size
    di, dj, dk = int(axis == 0), int(axis == 1), int(axis == 2)
    if axis < 3:
        position[axis] = (first[axis] + i * di + j * dj + k * dk + along) * voxel_size
    for c in range(3):
        here, there = color[k, j, i, c], color[k + dk, j + dj, i + di, c]
        paint[c] = here + (there - here) * along


@njit(nogil=True, cache=True)
def _normals(
    positions: NDArray[np.float32], faces: NDArray[np.int32], vertices: int
) -> NDArray[np.float32]:
    """Unit normals (n, 3) of the first n vertices."""
    sums = np.zeros((vertices, 3))
    for triangle in range(len(faces)):
        a, b, c = faces[triangle]
        px, py, pz = (
            np.float64(positions[a, 0]),
            np.float64(positions[a, 1]),
            np.float64(positions[a, 2]),
        )
        bx, by, bz = positions[b, 0] - px, positions[b, 1] - py, positions[b, 2] - pz
        cx, cy, cz = positions[c, 0] - px, positions[c, 1] - py, positions[c, 2] - pz
        x, y, z = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        for vertex in (a, b, c):
            if vertex < vertices:
                sums[vertex, 0] += x
                sums[vertex, 1] += y
                sums[vertex, 2] += z
    normals = np.zeros((vertices, 3), np.float32)
    for vertex in range(vertices):
        x, y, z = sums[vertex]
        length = math.sqrt(x * x + y * y + z * z)
        if length > 0:
            normals[vertex, 0] = x / length
            normals[vertex, 1] = y / length
            normals[vertex, 2] = z / length
    return normals
