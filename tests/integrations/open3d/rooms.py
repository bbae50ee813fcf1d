"""Frames of the exact room, ready for fusion, and volumes of them."""

from __future__ import annotations

from pathlib import Path

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
from numpy.typing import NDArray

from mem3r_open3d.frames import DepthFrame
from mem3r_open3d.store import Blocks, BlockStore
from mem3r_open3d.volume import BlockVolume
from mem3r_open3d.voxels import Voxels
from mem3r_plugin.geometry import Intrinsics
from tests.room_scan import room_colours, room_depth, room_points, room_pose

CAMERA = Intrinsics(70.0, 75.0, 47.0, 37.5, 96, 72)
VOXEL = 0.05


def room_frame(
    index: int, pose: NDArray[np.float64] | None = None, weight: float = 1.0
) -> DepthFrame:
    """What a perfect camera sees from `pose`; by default from where the room's frame is."""
    pose = room_pose(index) if pose is None else pose
    depth = room_depth(CAMERA, pose).astype(np.float32)
    colours = room_colours(room_points(CAMERA, pose))
    return DepthFrame(depth, np.full_like(depth, weight), colours, CAMERA, np.eye(3)[:2], pose)


def fused(
    path: Path, frames: list[DepthFrame], voxel: float = VOXEL, voxels: Voxels | None = None
) -> BlockStore:
    """The store of a volume with some frames in it."""
    store = BlockStore(path)
    volume = BlockVolume(voxel, 4 * voxel, store, 8_000, voxels)
    for frame in frames:
        volume.integrate(frame)
    volume.flush()
    return store


def all_blocks(store: BlockStore) -> Blocks:
    """Everything in a store, by rising keys."""
    blocks = Blocks.concatenate(store.load(region) for region in store.regions)
    return blocks[np.argsort(blocks.keys)]
