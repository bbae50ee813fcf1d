"""A truncated signed distance volume that keeps within its memory."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from mem3r_open3d.frames import DepthFrame
from mem3r_open3d.kernels import (
    BLOCK_SIZE,
    pack_keys,
    touched_blocks,
    unpack_keys,
    update_blocks,
)
from mem3r_open3d.store import VOXELS, Blocks, BlockStore
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry.pose import invert_pose

REGION_SIZE = 8
"""Blocks along the edge of a region, the unit in which blocks come from disk and go there."""

BLOCK_BYTES = VOXELS * 5 * 4 + 200
"""Memory of a block: distance, weight and colour of its voxels, and its place in the hash map."""

_STEPS_PER_BLOCK = 4
"""Steps, in pixels, that a block of usual distance is wide at least where touched blocks are looked for."""

_MOST_PIXEL_STEP = 4
_FIRST_CAPACITY = 16_384
_SPARE = 1 / 16
"""Share of the capacity that an eviction frees beyond what is needed, so that it is not needed soon."""


def region_keys(block_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Packed keys (n,) of the regions that blocks of packed keys (n,) lie in."""
    return pack_keys(unpack_keys(block_keys) // REGION_SIZE)


def new_grid(voxel_size: float, capacity: int) -> o3d.t.geometry.VoxelBlockGrid:
    """An empty Open3D grid with room for `capacity` blocks."""
    float32 = o3d.core.float32
    return o3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(float32, float32, float32),
        attr_channels=((1), (1), (3)),
        voxel_size=voxel_size,
        block_resolution=BLOCK_SIZE,
        block_count=capacity,
    )


def _pixel_step(frame: DepthFrame, block_length: float) -> int:
    """Of how many pixels one is enough to meet the blocks that a frame touches."""
    sample = frame.depth[::8, ::8]
    known = sample[sample > 0]
    if len(known) == 0:
        return 1
    pixels_per_block = block_length * frame.intrinsics.fx / np.quantile(known, 0.9)
    return int(np.clip(pixels_per_block // _STEPS_PER_BLOCK, 1, _MOST_PIXEL_STEP))


class BlockVolume:
    """Fuses depth maps into the blocks of an Open3D `VoxelBlockGrid`.

    Blocks come and go by regions of 8x8x8: a region that a frame touches is read from the store, and
    when the grid is full those farthest from the camera are written there. Open3D's hash map therefore
    never grows by itself, which is slow and has corrupted meshes (isl-org/Open3D#3555). What is fused
    does not depend on the capacity, to the last bit.

    Args:
        voxel_size: Distance of two voxels.
        truncation: How far from a surface a depth says something.
        store: Where blocks go that are not in memory.
        capacity: The most blocks to hold in memory.
    """

    def __init__(
        self, voxel_size: float, truncation: float, store: BlockStore, capacity: int
    ) -> None:
        self.voxel_size = voxel_size
        self.truncation = truncation
        self.store = store
        self.capacity = capacity
        self._resident: set[int] = set()
        self._changed: set[int] = set()
        self._allocate(min(capacity, _FIRST_CAPACITY))

    @property
    def grid(self) -> o3d.t.geometry.VoxelBlockGrid:
        """The blocks that are in memory now."""
        return self._grid

    def touched(self, frame: DepthFrame) -> NDArray[np.int64]:
        """Packed keys of the blocks that `integrate` will update, shape (n,); safe in any thread.

        Raises:
            ConfigError: they do not fit into the memory.
        """
        keys = self._touched(frame, self.voxel_size, self.truncation)
        if len(keys) > self._most_touched:
            raise self._too_small(frame)
        return keys

    def integrate(
        self, frame: DepthFrame, keys: NDArray[np.int64] | None = None, sign: float = 1.0
    ) -> None:
        """Fuse a frame, or with `sign` -1 take out one that was fused.

        Args:
            frame: The frame.
            keys: What `touched` says about it, if that is known already.
            sign: 1 or -1.

        Raises:
            ConfigError: the blocks it needs do not fit into the memory.
            OutputError: blocks could not be written to disk.
        """
        keys = self.touched(frame) if keys is None else keys
        if len(keys) == 0:
            return
        regions = set(np.unique(region_keys(keys)).tolist())
        slots = self._bring(keys, regions, frame)
        self._changed |= regions
        update_blocks(
            *self._attributes,
            slots,
            unpack_keys(keys),
            frame.depth,
            frame.weight,
            frame.image,
            frame.to_image,
            frame.camera,
            invert_pose(frame.camera_to_world),
            self.voxel_size,
            self.truncation,
            sign,
        )

    def flush(self) -> None:
        """Write what has changed to the store, and keep it in memory as well."""
        for region, slots in self._slots_by_region().items():
            self._write(region, slots)

    # -- parts -----------------------------------------------------------------------------

    def _allocate(self, capacity: int) -> None:
        self._grid = new_grid(self.voxel_size, capacity)
        self._blocks = self._grid.hashmap()
        self._attributes = tuple(
            self._blocks.value_tensor(i).numpy().reshape(capacity, -1) for i in range(3)
        )

    def _touched(self, frame: DepthFrame, voxel: float, truncation: float) -> NDArray[np.int64]:
        return touched_blocks(
            frame.depth,
            frame.camera,
            frame.camera_to_world,
            BLOCK_SIZE * voxel,
            truncation,
            _pixel_step(frame, BLOCK_SIZE * voxel),
            self.capacity,
        )

    @property
    def _most_touched(self) -> int:
        """The most blocks that a frame may touch, which leaves room for those beside them."""
        return self.capacity // 2

    def _too_small(self, frame: DepthFrame) -> ConfigError:
        """Says that the voxels are too small, and which would do."""
        ratio = self.truncation / self.voxel_size
        voxel = 1.25 * self.voxel_size
        while len(self._touched(frame, voxel, ratio * voxel)) > self._most_touched // 2:
            voxel *= 1.25
        return ConfigError(
            f"with voxels of {self.voxel_size:g} one frame takes more than the {self.capacity} blocks "
            f"that fit into the memory; give more --memory, or a --voxel of about {voxel:.2g}"
        )

    def _bring(
        self, keys: NDArray[np.int64], regions: set[int], frame: DepthFrame
    ) -> NDArray[np.int64]:
        """The slots (n,) of blocks, read from disk or made where they are not in memory."""
        while True:
            slots, known = self._find(keys)
            absent = sorted(regions - self._resident)
            wanted = int(np.count_nonzero(~known)) + sum(map(self.store.count, absent))
            size, room = self._blocks.size(), self._blocks.capacity()
            if size + wanted <= room:
                break
            if room < self.capacity:
                self._grow(min(self.capacity, 2 * max(room, wanted)))
            else:
                self._evict(wanted, regions, frame)
        for region in absent:
            self._put(self.store.load(region))
        self._resident |= regions
        if absent:
            slots, known = self._find(keys)
        if not known.all():
            slots[~known] = self._activate(keys[~known])
        return slots

    def _find(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        slots, known = self._blocks.find(o3d.core.Tensor(unpack_keys(keys)))
        return slots.numpy().astype(np.int64), known.numpy()

    def _activate(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots (n,) of new, empty blocks; Open3D hands out slots with what an erased block left."""
        slots = self._blocks.activate(o3d.core.Tensor(unpack_keys(keys)))[0].numpy()
        slots = slots.astype(np.int64)
        for attribute in self._attributes:
            attribute[slots] = 0
        return slots

    def _put(self, blocks: Blocks) -> None:
        if len(blocks) == 0:
            return
        slots = self._blocks.activate(o3d.core.Tensor(unpack_keys(blocks.keys)))[0].numpy()
        for attribute, values in zip(
            self._attributes, (blocks.tsdf, blocks.weight, blocks.color), strict=True
        ):
            attribute[slots] = values.reshape(len(blocks), -1)

    def _grow(self, capacity: int) -> None:
        """Begin a larger grid by way of the disk, since two at a time could exceed the memory."""
        self.flush()
        self._resident.clear()
        self._attributes = ()
        del self._blocks, self._grid
        self._allocate(capacity)

    def _evict(self, wanted: int, keep: Collection[int], frame: DepthFrame) -> None:
        """Write the regions farthest from the camera to disk until `wanted` blocks fit."""
        slots_of = self._slots_by_region()
        free = self._blocks.capacity() - self._blocks.size()
        target = wanted + int(_SPARE * self._blocks.capacity())
        candidates = np.array(sorted(slots_of.keys() - set(keep)), np.int64)
        centres = (unpack_keys(candidates) + 0.5) * (REGION_SIZE * BLOCK_SIZE * self.voxel_size)
        distance = np.linalg.norm(centres - frame.camera_to_world[:3, 3], axis=1)
        for region in candidates[np.argsort(-distance, kind="stable")].tolist():
            if free >= target:
                break
            slots = slots_of[region]
            self._write(region, slots)
            self._blocks.erase(o3d.core.Tensor(self._coordinates(slots)))
            self._resident.discard(region)
            free += len(slots)
        if free < wanted:
            raise self._too_small(frame)

    def _coordinates(self, slots: NDArray[np.int64]) -> NDArray[np.int32]:
        return np.ascontiguousarray(self._blocks.key_tensor().numpy()[slots])

    def _slots_by_region(self) -> dict[int, NDArray[np.int64]]:
        """The slots of the blocks in memory, by region; rising regions, rising blocks in each."""
        slots = self._blocks.active_buf_indices().numpy().astype(np.int64)
        keys = pack_keys(self._coordinates(slots))
        order = np.argsort(keys)
        slots, regions = slots[order], region_keys(keys[order])
        order = np.argsort(regions, kind="stable")
        names, starts = np.unique(regions[order], return_index=True)
        ends = [*starts[1:], len(slots)]
        parts = [slots[order[start:end]] for start, end in zip(starts, ends, strict=False)]
        return dict(zip(names.tolist(), parts, strict=True))

    def _write(self, region: int, slots: NDArray[np.int64]) -> None:
        """Bring a region on disk up to date, without blocks that nothing is left of."""
        if region not in self._changed:
            return
        tsdf, weight, color = self._attributes
        used = slots[weight[slots].any(axis=1)]
        keys = pack_keys(self._coordinates(used))
        colors = color[used].reshape(-1, VOXELS, 3)
        self.store.save(region, Blocks(keys, tsdf[used], weight[used], colors))
        self._changed.discard(region)
