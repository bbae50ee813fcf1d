"""From a scan to a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.frames import DepthFrame, scan_frame
from mem3r_open3d.fusion import (
    Change,
    Fusion,
    fused_frame,
    remembered_frame,
    resolve,
    voxels_on,
)
from mem3r_open3d.mesh import MeshConfig, write_surface
from mem3r_open3d.store import BlockStore, FusedFrame, remove_store
from mem3r_plugin.errors import Mem3RError, OutputError, ScanError
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.prefetch import prefetch

_READ_AHEAD = 4


@dataclass(frozen=True)
class FusionReport:
    """What a fusion did."""

    voxel: float
    """Distance of two voxels, in the scan's unit."""
    frames: int
    """Frames in the volume."""
    added: int
    """Frames fused now."""
    removed: int
    """Frames taken out now, since they had moved or changed."""
    vertices: int
    """Vertices of the surface."""
    faces: int
    """Triangles of the surface; 0 for a point cloud."""


def state_file(output: Path) -> Path:
    """Where the blocks of the fusion that makes `output` are kept."""
    return output.with_suffix(".tsdf")


def fuse(
    scan: Scan,
    output: Path,
    config: FusionConfig | None = None,
    mesh: MeshConfig | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
) -> FusionReport:
    """Fuse the depth of a scan and write its surface.

    The volume stays beside the surface, see `state_file`. With `resume` a fusion that was stopped or
    killed goes on and ends as if it had never stopped; one that was finished is brought up to date:
    frames of the scan whose pose, camera or depth is another than when they were fused are taken out
    as they were and fused as they are. `scan` may then be a refined version of the scan it began with,
    which must still be there.

    Args:
        scan: The scan; of an unfinished one, the frames it has.
        output: A .ply, .glb or .obj file.
        config: How depth is fused.
        mesh: How the surface is taken from the volume.
        resume: Go on with the fusion that is there.
        overwrite: Replace the fusion that is there.
        progress: Told what is being done.

    Raises:
        ScanError: the scan cannot be read, has no depth, or the fusion cannot be continued.
        OutputError: something cannot be written; the last checkpoint stays.
        ConfigError: the voxels are too small for the memory, or the device cannot be used.
    """
    config, mesh = config or FusionConfig(), mesh or MeshConfig()
    mesh.check(output)
    voxels_on(config.device)  # says whether it can be used, before anything is replaced
    state = state_file(output)
    _make_way(state, resume, overwrite)
    with BlockStore(state) as store:
        config = resolve(config, store, _first_depth(scan, config))
        # On return the volume is gone, and its memory is there for the surface.
        taken_out, added = _update(scan, store, config, progress)
        vertices, faces = write_surface(store, config, mesh, output, progress)
        return FusionReport(
            voxel=config.voxel or 0.0,
            frames=len(store.frames()),
            added=added,
            removed=taken_out,
            vertices=vertices,
            faces=faces,
        )


def _make_way(state: Path, resume: bool, overwrite: bool) -> None:
    """Remove an earlier fusion, or refuse to.

    Raises:
        OutputError: it is in the way.
    """
    if resume or not state.exists():
        return
    if not overwrite:
        raise OutputError(
            f"{state} already holds a fusion; continue it or bring it up to date with --resume, replace it "
            "with --overwrite, or choose another output"
        )
    remove_store(state)


def _first_depth(scan: Scan, config: FusionConfig) -> DepthFrame:
    """The first frame with depth.

    Raises:
        ScanError: there is none.
    """
    for position in range(0, len(scan), config.stride):
        frame = scan_frame(scan, position, config)
        if frame.depth.any():
            return frame
    raise ScanError(f"no frame of {scan.path} has depth that could be fused")


def _plan(
    scan: Scan, store: BlockStore, config: FusionConfig
) -> tuple[list[FusedFrame], list[FusedFrame]]:
    """Which frames to take out, as they were fused, and which to fuse, as they are.

    Where most have changed, the store is emptied, since fusing all of them anew is less work; and after
    a cross-check, since what it left of a frame depended on other frames as they were.
    """
    fused = store.frames()
    wanted = {i: fused_frame(scan, i, config) for i in range(0, len(scan), config.stride)}
    digests = {position: record.digest for position, record in wanted.items()}
    taken_out = [old for i, old in fused.items() if digests.get(i) != old.digest]
    if 2 * len(taken_out) > len(fused) or (taken_out and config.cross_check):
        store.clear()
        return [], list(wanted.values())
    stale = {record.position for record in taken_out}
    added = [new for i, new in wanted.items() if i in stale or i not in fused]
    return taken_out, added


def _update(
    scan: Scan, store: BlockStore, config: FusionConfig, progress: ProgressCallback
) -> tuple[int, int]:
    """Bring the volume to what the scan says; what was done is saved even if something fails.

    Returns:
        How many frames were taken out, and how many were fused.
    """
    taken_out, added = _plan(scan, store, config)
    fusion = Fusion(store, config)
    total = len(taken_out) + len(added)
    try:
        with closing(prefetch(_changes(scan, fusion, taken_out, added), _READ_AHEAD)) as changes:
            for done, change in enumerate(changes, start=1):
                fusion.apply(change)
                progress("fusing depth", done, total)
    except (Mem3RError, KeyboardInterrupt):
        with suppress(Mem3RError):
            fusion.checkpoint()
        raise
    fusion.checkpoint()
    return len(taken_out), len(added)


def _changes(
    scan: Scan, fusion: Fusion, taken_out: list[FusedFrame], added: list[FusedFrame]
) -> Iterator[Change]:
    """The changes by position, a frame's removal before its return."""
    old = {record.position: record for record in taken_out}
    new = {record.position: record for record in added}
    earlier = cache(Scan.open)
    for position in sorted(old.keys() | new.keys()):
        if position in old:
            scan_then = earlier(old[position].scan)
            frame = remembered_frame(old[position], scan_then, fusion.config)
            yield fusion.prepare(old[position], frame, -1.0)
        if position in new:
            frame = scan_frame(scan, position, fusion.config)
            yield fusion.prepare(new[position], frame)
