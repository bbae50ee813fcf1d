"""A truncated signed distance volume that keeps within its memory."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from mem3r_open3d.frames import DepthFrame
from mem3r_open3d.kernels import (
    BLOCK_SIZE,
    REGION_SIZE,
    VOXELS,
    neighbours,
    pack_keys,
    region_keys,
    unpack_keys,
)
from mem3r_open3d.store import Blocks, BlockStore
from mem3r_open3d.voxels import NumbaVoxels, Voxels
from mem3r_plugin.errors import ConfigError

BLOCK_BYTES = VOXELS * 5 * 4 + 200
"""Memory of a block: distance, weight and colour of its voxels, and its place in the hash map."""

_STEPS_PER_BLOCK = 4
"""Steps, in pixels, that a block of usual distance is wide at least where touched blocks are looked for."""

_MOST_PIXEL_STEP = 4
_FIRST_CAPACITY = 16_384
_SPARE = 1 / 16
"""Share of the capacity that an eviction frees beyond what is needed, so that it is not needed soon."""


def _pixel_step(frame: DepthFrame, block_length: float) -> int:
    """Of how many pixels one is enough to meet the blocks that a frame touches."""
    sample = frame.depth[::8, ::8]
    known = sample[sample > 0]
    if len(known) == 0:
        return 1
    pixels_per_block = block_length * frame.intrinsics.fx / np.quantile(known, 0.9)
    return int(np.clip(pixels_per_block // _STEPS_PER_BLOCK, 1, _MOST_PIXEL_STEP))


class BlockVolume:
    """Fuses depth maps into blocks of 8x8x8 voxels, which an Open3D hash map finds.

    Blocks come and go by regions of 8x8x8: a region that a frame touches is read from the store, and
    when there is no more room those farthest from the camera are written there. The hash map therefore
    never grows by itself, which is slow and has corrupted meshes (isl-org/Open3D#3555). What is fused
    does not depend on the capacity, to the last bit.

    Args:
        voxel_size: Distance of two voxels.
        truncation: How far from a surface a depth says something.
        store: Where blocks go that are not in memory.
        capacity: The most blocks to hold in memory.
        voxels: Where they are held and updated; by default the CPU.
    """

    def __init__(
        self,
        voxel_size: float,
        truncation: float,
        store: BlockStore,
        capacity: int,
        voxels: Voxels | None = None,
    ) -> None:
        self.voxel_size = voxel_size
        self.truncation = truncation
        self.store = store
        self.capacity = capacity
        self._voxels = NumbaVoxels() if voxels is None else voxels
        self._resident: set[int] = set()
        self._allocate(min(capacity, _FIRST_CAPACITY))

    @property
    def room(self) -> tuple[int, int]:
        """How many blocks are in memory now, and for how many there is room."""
        return self._blocks.size(), self._blocks.capacity()

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
        self._changed[slots] = True
        self._voxels.update(slots, keys, frame, self.voxel_size, self.truncation, sign)

    def flush(self) -> None:
        """Write what has changed to the store, and keep it in memory as well."""
        for region, slots in self._slots_by_region().items():
            self._write(region, slots)

    # -- parts -----------------------------------------------------------------------------

    def _allocate(self, capacity: int) -> None:
        self._blocks = o3d.core.HashSet(capacity, o3d.core.int32, (3,))
        self._voxels.allocate(capacity)
        self._changed = np.zeros(capacity, bool)  # slots that the store has not seen so

    def _touched(self, frame: DepthFrame, voxel: float, truncation: float) -> NDArray[np.int64]:
        length = BLOCK_SIZE * voxel
        step = _pixel_step(frame, length)
        return self._voxels.touched(frame, length, truncation, step, self.capacity)

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
            size, room = self.room
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
        """Slots (n,) of new, empty blocks; an erased block leaves its slot as it was."""
        slots = self._insert(keys)
        self._voxels.clear(slots)
        return slots

    def _insert(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        slots, _ = self._blocks.insert(o3d.core.Tensor(unpack_keys(keys)))
        return slots.numpy().astype(np.int64)

    def _put(self, blocks: Blocks) -> None:
        if len(blocks):
            values = blocks.tsdf, blocks.weight, blocks.color
            self._voxels.write(self._insert(blocks.keys), values)

    def _grow(self, capacity: int) -> None:
        """Make more room by way of the disk, since two copies at a time could exceed the memory."""
        self.flush()
        self._resident.clear()
        self._allocate(capacity)

    def _evict(self, wanted: int, keep: Collection[int], frame: DepthFrame) -> None:
        """Write the regions farthest from the camera to disk until `wanted` blocks fit."""
        slots_of = self._slots_by_region()
        size, room = self.room
        free = room - size
        target = wanted + int(_SPARE * room)
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
        changed = slots[self._changed[slots]]
        if not len(changed):
            return
        tsdf, weight, color = self._voxels.read(slots)
        used = weight.any(axis=1)
        keys = pack_keys(self._coordinates(slots[used]))
        self.store.save(region, Blocks(keys, tsdf[used], weight[used], color[used]))
        self._changed[slots] = False
        # What is extracted of a region depends on the blocks around it, too.
        changed_keys = pack_keys(self._coordinates(changed))
        around = np.append(changed_keys, neighbours(changed_keys))
        self.store.forget_surface(np.unique(region_keys(around)).tolist())
