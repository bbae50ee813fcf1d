"""The voxels of a volume, on the device where they are updated."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mem3r_open3d.frames import DepthFrame
from mem3r_open3d.kernels import VOXELS, touched_blocks, unpack_keys, update_blocks
from mem3r_plugin.geometry.pose import invert_pose

VoxelValues = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Of n blocks: signed distance over truncation (n, 512), sum of weights (n, 512), mean RGB (n, 512, 3)."""


class Voxels(Protocol):
    """The voxels of blocks, each block in a slot."""

    def allocate(self, capacity: int) -> None:
        """Begin anew with room for `capacity` blocks."""

    def touched(
        self, frame: DepthFrame, block_length: float, truncation: float, pixel_step: int, limit: int
    ) -> NDArray[np.int64]:
        """As `kernels.touched_blocks`, in any order; safe in any thread."""

    def update(
        self,
        slots: NDArray[np.int64],
        keys: NDArray[np.int64],
        frame: DepthFrame,
        voxel_size: float,
        truncation: float,
        sign: float,
    ) -> None:
        """As `kernels.update_blocks`, for the blocks of packed keys (n,) in slots (n,)."""

    def read(self, slots: NDArray[np.int64]) -> VoxelValues:
        """A copy of what is in slots (n,)."""

    def write(self, slots: NDArray[np.int64], values: VoxelValues) -> None:
        """Replace what is in slots (n,)."""

    def clear(self, slots: NDArray[np.int64]) -> None:
        """Make the voxels in slots (n,) never seen."""


class NumbaVoxels:
    """NumPy arrays, updated on all cores."""

    def __init__(self) -> None:
        self.allocate(0)

    def allocate(self, capacity: int) -> None:
        """Begin anew; memory is taken only where blocks come to lie."""
        self._tsdf = np.zeros((capacity, VOXELS), np.float32)
        self._weight = np.zeros((capacity, VOXELS), np.float32)
        self._color = np.zeros((capacity, VOXELS, 3), np.float32)

    def touched(
        self, frame: DepthFrame, block_length: float, truncation: float, pixel_step: int, limit: int
    ) -> NDArray[np.int64]:
        """See `Voxels`."""
        pose = frame.camera_to_world
        return touched_blocks(
            frame.depth, frame.camera, pose, block_length, truncation, pixel_step, limit
        )

    def update(
        self,
        slots: NDArray[np.int64],
        keys: NDArray[np.int64],
        frame: DepthFrame,
        voxel_size: float,
        truncation: float,
        sign: float,
    ) -> None:
        """See `Voxels`."""
        update_blocks(
            self._tsdf,
            self._weight,
            self._color,
            slots,
            unpack_keys(keys),
            frame.depth,
            frame.weight,
            frame.image,
            frame.to_image,
            frame.camera,
            invert_pose(frame.camera_to_world),
            voxel_size,
            truncation,
            sign,
        )

    def read(self, slots: NDArray[np.int64]) -> VoxelValues:
        """See `Voxels`."""
        return self._tsdf[slots], self._weight[slots], self._color[slots]

    def write(self, slots: NDArray[np.int64], values: VoxelValues) -> None:
        """See `Voxels`."""
        self._tsdf[slots], self._weight[slots], self._color[slots] = values

    def clear(self, slots: NDArray[np.int64]) -> None:
        """See `Voxels`."""
        self._tsdf[slots] = self._weight[slots] = self._color[slots] = 0
