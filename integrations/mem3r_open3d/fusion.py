"""A fusion that can be stopped, continued and corrected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.frames import DepthFrame, scan_frame, witnesses
from mem3r_open3d.store import BlockStore, FusedFrame
from mem3r_open3d.volume import BLOCK_BYTES, BlockVolume
from mem3r_open3d.voxels import NumbaVoxels, Voxels
from mem3r_plugin.errors import ScanError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import CONFIDENCE, DEPTH, frame_file

WORKING_BYTES = 200_000_000
"""Memory beside the blocks: frames read ahead, SQLite's pages, regions on their way to disk and back."""

_SETTINGS = "settings"
_VOXELS_PER_MEDIAN_DEPTH = 150
_VOXELS_PER_TRUNCATION = 4.0


@dataclass(frozen=True)
class Change:
    """A frame that is ready to be fused (`sign` 1) or taken out (-1)."""

    record: FusedFrame
    """What the fusion remembers of it."""
    frame: DepthFrame
    """Its depth, weights, colours and camera."""
    blocks: NDArray[np.int64]
    """Packed keys of the blocks it touches."""
    sign: float
    """1 or -1."""


class Fusion:
    """The volume of a scan together with the record of the frames in it.

    Args:
        store: Where it is kept; not to be closed before the fusion is over.
        config: The options, with `voxel` and `truncation` set; see `resolve`.

    Raises:
        ScanError: the store was begun with other options.
        ConfigError: the device cannot be used.
    """

    def __init__(self, store: BlockStore, config: FusionConfig) -> None:
        if config.voxel is None or config.truncation is None:
            raise ValueError("voxel and truncation must be set, see `resolve`")
        self.store = store
        self.config = config
        _require_same(store, config)
        self.frames = store.frames()
        capacity = (config.memory_bytes - WORKING_BYTES) // BLOCK_BYTES
        self.volume = BlockVolume(
            config.voxel, config.truncation, store, capacity, voxels_on(config.device)
        )
        self._since_checkpoint = 0

    def prepare(self, record: FusedFrame, frame: DepthFrame, sign: float = 1.0) -> Change:
        """All that can be done ahead in another thread."""
        return Change(record, frame, self.volume.touched(frame), sign)

    def apply(self, change: Change) -> None:
        """Change the volume; now and then also the state on disk.

        Raises:
            OutputError: the disk is full; the last checkpoint stays.
            ConfigError: the frame does not fit into the memory.
        """
        self.volume.integrate(change.frame, change.blocks, change.sign)
        if change.sign > 0:
            self.store.add_frame(change.record)
            self.frames[change.record.position] = change.record
        else:
            self.store.remove_frame(change.record.position)
            del self.frames[change.record.position]
        self._since_checkpoint += 1
        if self._since_checkpoint >= self.config.checkpoint_every:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make the state on disk that of the volume.

        Raises:
            OutputError: the disk is full; the last checkpoint stays.
        """
        self.volume.flush()
        self.store.commit()
        self._since_checkpoint = 0


def voxels_on(device: str) -> Voxels:
    """Voxels on a device that torch knows: on `cpu` compiled by numba, elsewhere by torch.

    Raises:
        ConfigError: the device cannot be used here.
    """
    if device == "cpu":
        return NumbaVoxels()
    # Torch takes 200 MB, which a fusion on the CPU does not need.
    from mem3r_open3d.torch_voxels import TorchVoxels
    from mem3r_plugin.stream.front_end import pick_device

    return TorchVoxels(pick_device(device))


def resolve(config: FusionConfig, store: BlockStore, first: DepthFrame) -> FusionConfig:
    """The options with `voxel` and `truncation` set: as given, as the fusion was begun, or by default."""
    begun = store.read(_SETTINGS, {})
    voxel, truncation = config.voxel, config.truncation
    if voxel is None:
        median = float(np.median(first.depth[first.depth > 0]))
        finest = max(1 / _VOXELS_PER_MEDIAN_DEPTH, 1 / first.intrinsics.fx)
        voxel = begun.get("voxel") or float(f"{median * finest:.2g}")
    if truncation is None:
        truncation = _VOXELS_PER_TRUNCATION * voxel
    return replace(config, voxel=voxel, truncation=truncation)


def fused_frame(scan: Scan, position: int, config: FusionConfig) -> FusedFrame:
    """The record of a frame as a scan has it now.

    Raises:
        ScanError: its depth or confidence cannot be read.
    """

    def digest(index: int) -> str:
        camera, pose = scan.frame_network_camera(index), scan.frames[index].camera_to_world
        return frame_digest(scan.path, index, camera, pose)

    asked = (position, *witnesses(scan, position, config))
    return FusedFrame(
        position,
        " ".join(digest(index) for index in asked),
        scan.path,
        scan.frame_network_camera(position),
        scan.frames[position].camera_to_world,
    )


def frame_digest(
    scan: Path, position: int, intrinsics: Intrinsics, camera_to_world: NDArray[np.float64]
) -> str:
    """Changes when the depth, confidence, camera or pose of a frame does.

    Raises:
        ScanError: depth or confidence cannot be read.
    """
    digest = blake2b(digest_size=16)
    for kind in (DEPTH, CONFIDENCE):
        file = frame_file(scan, kind, position)
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise ScanError(f"{file} cannot be read: {error.strerror}") from error
    digest.update(" ".join(f"{value:.6f}" for value in vars(intrinsics).values()).encode())
    digest.update(np.ascontiguousarray(camera_to_world, np.float64).tobytes())
    return digest.hexdigest()


def remembered_frame(record: FusedFrame, scan: Scan, config: FusionConfig) -> DepthFrame:
    """A frame as it was fused, to take it out again; `scan` is that of the record.

    Raises:
        ScanError: its depth is no longer what was fused.
    """
    digest = frame_digest(record.scan, record.position, record.intrinsics, record.camera_to_world)
    if digest != record.digest:
        raise ScanError(
            f"frame {record.position} of {record.scan} has changed since it was fused; start again with "
            "--overwrite"
        )
    frame = scan_frame(scan, record.position, config)
    return replace(frame, intrinsics=record.intrinsics, camera_to_world=record.camera_to_world)


def _require_same(store: BlockStore, config: FusionConfig) -> None:
    names = (
        "voxel",
        "truncation",
        "max_depth",
        "confidence",
        "max_angle",
        "cross_check",
        "stride",
        "device",
    )
    wanted = {name: getattr(config, name) for name in names}
    begun = store.read(_SETTINGS, wanted)
    differences = [
        f"{name} was {begun[name]} and is now {wanted[name]}"
        for name in names
        if begun[name] != wanted[name]
    ]
    if differences:
        raise ScanError(
            f"{store.path} cannot be continued, it was begun with other settings: "
            f"{'; '.join(differences)}; use --overwrite"
        )
    store.note(_SETTINGS, wanted)
