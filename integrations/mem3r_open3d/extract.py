"""The surface of a volume that is larger than memory, region by region."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mem3r_open3d.kernels import (
    BLOCK_SIZE,
    KEY_BITS,
    KEY_LIMIT,
    REGION_SIZE,
    neighbours,
    unpack_keys,
)
from mem3r_open3d.marching_cubes import marching_cubes
from mem3r_open3d.store import Blocks, BlockStore

_REGION_VOXELS = REGION_SIZE * BLOCK_SIZE


@dataclass(frozen=True)
class SurfacePart:
    """The part of a surface that lies in one region of space."""

    region: int
    """Packed key of the region."""
    positions: NDArray[np.float32]
    """World coordinates of V vertices, shape (V, 3), in a fixed order."""
    normals: NDArray[np.float32]
    """Unit normals towards the cameras, shape (V, 3)."""
    colors: NDArray[np.uint8]
    """RGB, shape (V, 3)."""
    faces: NDArray[np.int32]
    """Vertex indices, counter-clockwise seen from outside, shape (F, 3)."""
    shared: NDArray[np.bool_]
    """Vertices that faces of other regions use as well, shape (V,)."""

    def encode(self) -> bytes:
        """As bytes."""
        arrays = (self.positions, self.normals, self.colors, self.shared, self.faces)
        return np.int64(len(self.positions)).tobytes() + b"".join(a.tobytes() for a in arrays)

    @classmethod
    def decode(cls, region: int, data: bytes) -> SurfacePart:
        """The inverse of `encode`."""
        count = int(np.frombuffer(data, np.int64, 1)[0])
        positions = np.frombuffer(data, np.float32, 3 * count, 8).reshape(-1, 3)
        normals = np.frombuffer(data, np.float32, 3 * count, 8 + 12 * count).reshape(-1, 3)
        colors = np.frombuffer(data, np.uint8, 3 * count, 8 + 24 * count).reshape(-1, 3)
        shared = np.frombuffer(data, np.bool_, count, 8 + 27 * count)
        faces = np.frombuffer(data, np.int32, offset=8 + 28 * count).reshape(-1, 3)
        return cls(region, positions, normals, colors, faces, shared)


def surface_parts(
    store: BlockStore, voxel_size: float, min_weight: float, cached_blocks: int
) -> Iterator[SurfacePart]:
    """The surface of every region that holds blocks, in the order of `store.regions`.

    A region is extracted with the layer of voxels around it, and has the triangles of the cubes whose
    lowest corner is one of its voxels. Regions meet in vertices of the same coordinates to the last bit,
    and each triangle of the whole surface is in exactly one part. Parts are kept in the store, and made
    anew only where blocks in a region or at its border have changed.

    Args:
        store: The blocks.
        voxel_size: Distance of two voxels.
        min_weight: Voxels of less weight are taken as never seen.
        cached_blocks: How many blocks to keep in memory for the next regions.
    """
    cache = _RegionCache(store, cached_blocks)
    for region in store.regions:
        known = store.load_surface(region, min_weight)
        if known is not None:
            yield SurfacePart.decode(region, known)
            continue
        part = _region_surface(region, cache, voxel_size, min_weight)
        store.save_surface(region, min_weight, part.encode())
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


def _region_surface(
    region: int, cache: _RegionCache, voxel_size: float, min_weight: float
) -> SurfacePart:
    """The surface of a region from its blocks and those beside it."""
    first = unpack_keys(np.array([region]))[0].astype(np.int64) * _REGION_VOXELS - 1
    edge = (
        _REGION_VOXELS + 3
    )  # one voxel before, and two after: the last cubes end in the first of them
    tsdf = np.full((edge, edge, edge), np.nan, np.float32)
    color = np.empty((edge, edge, edge, 3), np.float32)
    for key in (region, *neighbours(np.array([region]))[0].tolist()):
        blocks = cache[key]
        if len(blocks):
            _lay_out(
                blocks.keys,
                blocks.tsdf,
                blocks.weight,
                blocks.color,
                first,
                min_weight,
                tsdf,
                color,
            )
    positions, normals, colors, faces, shared = marching_cubes(tsdf, color, first + 0.5, voxel_size)
    return SurfacePart(
        region, positions, normals, np.rint(colors.clip(0, 255)).astype(np.uint8), faces, shared
    )


@njit(nogil=True, cache=True)
def _lay_out(
    keys: NDArray[np.int64],
    tsdf: NDArray[np.float32],
    weight: NDArray[np.float32],
    color: NDArray[np.float32],
    first: NDArray[np.int64],
    min_weight: float,
    dense_tsdf: NDArray[np.float32],
    dense_color: NDArray[np.float32],
) -> None:
    """Copy what was seen of blocks into a dense cube of voxels that begins at voxel `first`."""
    edge = len(dense_tsdf)
    mask = 2 * KEY_LIMIT - 1
    for b in range(len(keys)):
        x0 = ((keys[b] >> 2 * KEY_BITS) - KEY_LIMIT) * BLOCK_SIZE - first[0]
        y0 = ((keys[b] >> KEY_BITS & mask) - KEY_LIMIT) * BLOCK_SIZE - first[1]
        z0 = ((keys[b] & mask) - KEY_LIMIT) * BLOCK_SIZE - first[2]
        for z in range(max(z0, 0), min(z0 + BLOCK_SIZE, edge)):
            for y in range(max(y0, 0), min(y0 + BLOCK_SIZE, edge)):
                for x in range(max(x0, 0), min(x0 + BLOCK_SIZE, edge)):
                    voxel = ((z - z0) * BLOCK_SIZE + y - y0) * BLOCK_SIZE + x - x0
                    if weight[b, voxel] >= min_weight:
                        dense_tsdf[z, y, x] = tsdf[b, voxel]
                        for c in range(3):
                            dense_color[z, y, x, c] = color[b, voxel, c]
