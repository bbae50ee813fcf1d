"""Fusing while frames arrive."""

from __future__ import annotations

from pathlib import Path

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.frames import DepthFrame, estimate_frame
from mem3r_open3d.fuse import fuse, state_file
from mem3r_open3d.fusion import Fusion, frame_digest, resolve, voxels_on
from mem3r_open3d.mesh import MeshConfig
from mem3r_open3d.store import BlockStore, FusedFrame, remove_store
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.estimate import FrameEstimate


class TsdfSink:
    """Fuses what a run estimates; when the run is complete, writes the mesh beside the scan.

    Frames are fused with the camera as it is known when they come. Where the run still changes its mind
    about the camera, the frames that this concerns are fused again at the end, so the mesh is always
    that of `fuse` on the finished scan. What is fused is kept as `fuse` keeps it, for `--resume` there.

    Args:
        scan: Folder of the scan that the run writes before it calls this sink.
        config: How depth is fused.
        mesh: How the surface is taken from the volume.

    Raises:
        ConfigError: `config` asks for a cross-check, or for a device that cannot be used.
    """

    def __init__(
        self, scan: Path, config: FusionConfig | None = None, mesh: MeshConfig | None = None
    ) -> None:
        self.output = scan.parent / f"{scan.name}.ply"
        self._path = scan
        self._config = config or FusionConfig()
        if self._config.cross_check:
            raise ConfigError(
                "cross_check asks frames that are still to come; use `mem3r fuse` later"
            )
        voxels_on(self._config.device)
        self._mesh = mesh or MeshConfig()
        self._scan: Scan | None = None
        self._position = 0
        self._store: BlockStore | None = None
        self._fusion: Fusion | None = None

    def open(self) -> None:
        """Nothing to do before the first frame, whose depth decides on the voxels."""

    def write(self, estimate: FrameEstimate) -> None:
        """Fuse a frame that the scan has got just before.

        Raises:
            OutputError: the disk is full; the last checkpoint stays.
            ConfigError: the voxels are too small for the memory.
        """
        if self._scan is None:
            self._begin()
        else:
            self._position += 1
        assert self._scan is not None
        if self._position % self._config.stride:
            return
        frame = estimate_frame(estimate, self._scan.depth_unit, self._config)
        fusion = self._begun_fusion(frame)
        if fusion is None or self._position in fusion.frames:
            return
        digest = frame_digest(
            self._scan.path, self._position, frame.intrinsics, frame.camera_to_world
        )
        record = FusedFrame(
            self._position, digest, self._scan.path, frame.intrinsics, frame.camera_to_world
        )
        fusion.apply(fusion.prepare(record, frame))

    def close(self, complete: bool) -> None:
        """Keep what was fused; of a complete run also write the mesh.

        Raises:
            OutputError: the volume or the mesh cannot be written.
            ScanError: no frame had depth.
        """
        if self._store is not None:
            with self._store:
                if self._fusion is not None:
                    self._fusion.checkpoint()
            self._store = self._fusion = None
        if complete and self._scan is not None:
            fuse(Scan.open(self._path), self.output, self._config, self._mesh, resume=True)

    def _begin(self) -> None:
        """See where in the scan the run is: at its first frame, or further on after a kill."""
        self._scan = Scan.open(self._path)
        self._position = len(self._scan) - 1
        state = state_file(self.output)
        if self._position == 0:
            remove_store(state)
        self._store = BlockStore(state)

    def _begun_fusion(self, frame: DepthFrame) -> Fusion | None:
        """The fusion; None before the first frame with depth."""
        if self._fusion is None and self._store is not None and frame.depth.any():
            self._fusion = Fusion(self._store, resolve(self._config, self._store, frame))
        return self._fusion
