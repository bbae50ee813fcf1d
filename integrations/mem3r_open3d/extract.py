"""The surface of a volume that is larger than memory, tile by tile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from mem3r_open3d.kernels import BLOCK_SIZE, pack_keys, unpack_keys
from mem3r_open3d.store import Blocks, BlockStore
from mem3r_open3d.volume import REGION_SIZE, new_grid

_TILE_REGIONS = 4
_TILE_BLOCKS = _TILE_REGIONS * REGION_SIZE
_NEIGHBOURS = np.array(list(product((-1, 0, 1), repeat=3)))


@dataclass(frozen=True)
class SurfacePart:
    """The part of a surface that lies in one tile of space."""

    tile: int
    """Packed key of the tile."""
    positions: NDArray[np.float32]
    """World coordinates of V vertices, shape (V, 3), in a fixed order."""
    normals: NDArray[np.float32]
    """Unit normals towards the cameras, shape (V, 3)."""
    colors: NDArray[np.uint8]
    """RGB, shape (V, 3)."""
    faces: NDArray[np.int32]
    """Vertex indices, counter-clockwise seen from outside, shape (F, 3)."""
    shared: NDArray[np.bool_]
    """Vertices that faces of other tiles use as well, shape (V,)."""

    def encode(self) -> bytes:
        """As bytes."""
        arrays = (self.positions, self.normals, self.colors, self.shared, self.faces)
        return np.int64(len(self.positions)).tobytes() + b"".join(a.tobytes() for a in arrays)

    @classmethod
    def decode(cls, tile: int, data: bytes) -> SurfacePart:
        """The inverse of `encode`."""
        count = int(np.frombuffer(data, np.int64, 1)[0])
        positions = np.frombuffer(data, np.float32, 3 * count, 8).reshape(-1, 3)
        normals = np.frombuffer(data, np.float32, 3 * count, 8 + 12 * count).reshape(-1, 3)
        colors = np.frombuffer(data, np.uint8, 3 * count, 8 + 24 * count).reshape(-1, 3)
        shared = np.frombuffer(data, np.bool_, count, 8 + 27 * count)
        faces = np.frombuffer(data, np.int32, offset=8 + 28 * count).reshape(-1, 3)
        return cls(tile, positions, normals, colors, faces, shared)


def tiles(store: BlockStore) -> list[int]:
    """Packed keys of the tiles that hold blocks, rising."""
    regions = unpack_keys(np.array(store.regions, np.int64))
    return np.unique(pack_keys(regions // _TILE_REGIONS)).tolist()


def neighbour_tiles(tile: int) -> list[int]:
    """The 26 tiles around a tile."""
    around = unpack_keys(np.array([tile])) + _NEIGHBOURS
    return [key for key in pack_keys(around).tolist() if key != tile]


def surface_parts(
    store: BlockStore, voxel_size: float, min_weight: float, cached_blocks: int
) -> Iterator[SurfacePart]:
    """The surface of every tile, in the order of `tiles`.

    A tile is extracted with the layer of blocks around it, and keeps the triangles whose centre it
    holds. Tiles meet in vertices of the same coordinates to the last bit, and each triangle of the
    whole surface is in exactly one part. Parts are kept in the store, and made anew only where blocks
    have changed.

    Args:
        store: The blocks.
        voxel_size: Distance of two voxels.
        min_weight: Voxels of less weight are taken as never seen.
        cached_blocks: How many blocks to keep in memory for the next tiles.
    """
    cache = _RegionCache(store, cached_blocks)
    for tile in tiles(store):
        regions = _regions_around(tile)
        made_from = f"{min_weight} {[store.version(region) for region in regions]}"
        known = store.load_surface(tile, made_from)
        if known is not None:
            yield SurfacePart.decode(tile, known)
            continue
        part = _tile_surface(tile, [cache[region] for region in regions], voxel_size, min_weight)
        store.save_surface(tile, made_from, part.encode())
        yield part


class _RegionCache:
    """Regions read from the store, the last used ones kept."""

    def __init__(self, store: BlockStore, blocks: int) -> None:
        self._store = store
        self._room = blocks
        self._regions: OrderedDict[int, Blocks] = OrderedDict()

    def __getitem__(self, region: int) -> Blocks:
        if region not in self._regions:
            self._regions[region] = self._store.load(region)
            self._room -= len(self._regions[region])
        self._regions.move_to_end(region)
        while self._room < 0 and len(self._regions) > 1:
            self._room += len(self._regions.popitem(last=False)[1])
        return self._regions[region]


def _tile_bounds(tile: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The blocks of a tile and of the layer around it: first, and one beyond the last, (3,) each."""
    low = unpack_keys(np.array([tile]))[0] * _TILE_BLOCKS - 1
    return low, low + _TILE_BLOCKS + 2


def _regions_around(tile: int) -> list[int]:
    """The regions that hold the blocks of `_tile_bounds`."""
    axes = [
        range(low // REGION_SIZE, (high - 1) // REGION_SIZE + 1)
        for low, high in zip(*_tile_bounds(tile), strict=True)
    ]
    return pack_keys(np.array(list(product(*axes)))).tolist()


def _tile_surface(
    tile: int, regions: list[Blocks], voxel_size: float, min_weight: float
) -> SurfacePart:
    """The surface of a tile from the regions around it."""
    low, high = _tile_bounds(tile)
    parts = []
    for blocks in regions:
        coordinates = unpack_keys(blocks.keys)
        inside = ((coordinates >= low) & (coordinates < high)).all(axis=1)
        parts.append(blocks[np.flatnonzero(inside)])
    mesh = _marching_cubes(Blocks.concatenate(parts), voxel_size, min_weight)
    return _empty_part(tile) if mesh is None else _own_part(tile, *mesh, voxel_size)


def _marching_cubes(
    blocks: Blocks, voxel_size: float, min_weight: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]] | None:
    """Vertices (V, 3), their colours (V, 3) from 0 to 1, and faces (F, 3) by Open3D."""
    grid = new_grid(voxel_size, len(blocks) + 1)
    table = grid.hashmap()
    slots = table.activate(o3d.core.Tensor(unpack_keys(blocks.keys)))[0].numpy()
    for i, values in enumerate((blocks.tsdf, blocks.weight, blocks.color)):
        attribute = table.value_tensor(i).numpy()
        attribute[slots] = values.reshape(-1, *attribute.shape[1:])
    # Open3D takes weights above the threshold only; a voxel of just this weight shall count.
    mesh = grid.extract_triangle_mesh(
        weight_threshold=float(np.nextafter(np.float32(min_weight), -1))
    )
    if "positions" not in mesh.vertex or "indices" not in mesh.triangle:
        return None
    faces = mesh.triangle.indices.numpy().astype(np.int64)
    if not len(faces):
        return None
    return mesh.vertex.positions.numpy(), mesh.vertex.colors.numpy(), faces


def _own_part(
    tile: int,
    positions: NDArray[np.float32],
    colors: NDArray[np.float32],
    faces: NDArray[np.int64],
    voxel_size: float,
) -> SurfacePart:
    """What belongs to the tile, in an order that does not depend on threads."""
    positions, colors, faces = _merged(positions, colors, faces)
    corners = positions[faces].astype(np.float64)
    length = _TILE_BLOCKS * BLOCK_SIZE * voxel_size
    tile_of_face = np.floor(corners.mean(axis=1) / length).astype(np.int64)
    own = (tile_of_face == unpack_keys(np.array([tile]))[0]).all(axis=1)
    normals = _vertex_normals(corners, faces, len(positions))
    used, shared = np.zeros((2, len(positions)), bool)
    used[faces[own]] = True
    shared[faces[~own]] = True
    place = np.cumsum(used) - 1
    return SurfacePart(
        tile,
        positions[used],
        normals[used],
        np.rint(255 * colors[used].clip(0, 1)).astype(np.uint8),
        _sorted_faces(place[faces[own]]),
        shared[used],
    )


def _merged(
    positions: NDArray[np.float32], colors: NDArray[np.float32], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The mesh with its vertices in order and without triangles that are a line or a point.

    Open3D makes several vertices of one place where the surface goes exactly through a voxel.
    """
    order = np.lexsort(positions.T)
    first = np.append(True, (np.diff(positions[order], axis=0) != 0).any(axis=1))
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(first) - 1
    faces = place[faces]
    proper = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    kept = order[first]
    return positions[kept], colors[kept], faces[proper]


def _empty_part(tile: int) -> SurfacePart:
    nothing = np.empty((0, 3), np.float32)
    return SurfacePart(
        tile,
        nothing,
        nothing,
        nothing.astype(np.uint8),
        nothing.astype(np.int32),
        np.empty(0, bool),
    )


def _vertex_normals(
    corners: NDArray[np.float64], faces: NDArray[np.int64], vertices: int
) -> NDArray[np.float32]:
    """Mean of the normals of the faces around each vertex, weighted by area."""
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(face_normals[:, axis], 3), vertices)
            for axis in range(3)
        ],
        axis=-1,
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(length > 0, length, 1)).astype(np.float32)


def _sorted_faces(faces: NDArray[np.int64]) -> NDArray[np.int32]:
    """Faces with their lowest vertex first, in rising order; which way round they go is kept."""
    first = faces.argmin(axis=1) if len(faces) else np.empty(0, np.int64)
    turned = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)
    return turned[np.lexsort(turned.T[::-1])].astype(np.int32)
