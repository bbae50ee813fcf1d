"""Fusion measured: speed beside Open3D's own, memory and growth on a long scan, re-fusion.

    .venv/bin/python benchmarks/fusion.py speed SCAN --voxels 0.01 0.02
    .venv/bin/python benchmarks/fusion.py long SCAN --voxel 0.02 --memory 1GB --work /tmp/fusion
    .venv/bin/python benchmarks/fusion.py refuse SCAN --voxel 0.01 --work /tmp/fusion

SCAN is a folder made by `mem3r import-rgbd` or `benchmarks/corridor.py`. Times are seconds of the clock and
of the processor; on a busy machine only the latter mean much.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d
import psutil
import tyro

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.dataset import RGBDFrame, ScanDataset
from mem3r_open3d.frames import scan_frame
from mem3r_open3d.fuse import fuse
from mem3r_open3d.fusion import Fusion, fused_frame, resolve
from mem3r_open3d.store import BlockStore
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import FRAMES
from mem3r_plugin.stream.prefetch import prefetch


@dataclass(frozen=True)
class Speed:
    """Time a frame of this package and of Open3D's two volumes, all reading the same scan."""

    scan: tyro.conf.Positional[Path]
    """The scan."""
    voxels: tuple[float, ...] = (0.01, 0.02)
    """Voxel sizes."""
    frames: int = 100
    """How many frames from the beginning."""
    memory: str = "1GB"
    """Memory limit of this package."""
    work: Path = Path("/tmp/fusion")
    """Folder for what is written."""

    def __call__(self) -> None:
        """Print a row for every method and voxel size."""
        self.work.mkdir(parents=True, exist_ok=True)
        scan = Scan.open(self.scan)
        for voxel in self.voxels:
            for name, method in METHODS.items():
                clock, processor = _timed(method(scan, voxel, self))
                print(
                    f"voxel {voxel:g}  {name:26} {1e3 * clock / self.frames:6.1f} ms/frame, "
                    f"{1e3 * processor / self.frames:6.1f} of processor",
                    flush=True,
                )


def _timed(steps: Iterator[None]) -> tuple[float, float]:
    """Seconds of the clock and of the processor for all steps after the first, which sets up."""
    next(steps)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in steps:
        pass
    return time.perf_counter() - clock, time.process_time() - processor


def _ours(scan: Scan, voxel: float, options: Speed) -> Iterator[None]:
    """As `mem3r fuse` does it: reading and preparing ahead in a thread; writing to disk included."""
    state = options.work / "speed.tsdf"
    state.unlink(missing_ok=True)
    with BlockStore(state) as store:
        wanted = FusionConfig(voxel=voxel, memory=options.memory)
        first = scan_frame(scan, 0, wanted)
        config = resolve(wanted, store, first)
        fusion = Fusion(store, config)
        fusion.volume.integrate(first)  # loads the compiled loops
        fusion.volume.integrate(first, sign=-1.0)
        yield
        changes = (
            fusion.prepare(fused_frame(scan, i, config), scan_frame(scan, i, config))
            for i in range(options.frames)
        )
        for change in prefetch(changes, 4):
            fusion.apply(change)
            yield
        fusion.checkpoint()


def _voxel_block_grid(resolution: int) -> Callable[[Scan, float, Speed], Iterator[None]]:
    """Open3D's tensor volume with blocks of so many voxels along an edge, large enough from the start."""

    def method(scan: Scan, voxel: float, options: Speed) -> Iterator[None]:
        dtypes = (o3d.core.float32, o3d.core.uint16, o3d.core.uint16)
        blocks = int(10_000 * (16 / resolution) ** 2 * min(1.0, 0.01 / voxel) ** 2)
        grid = o3d.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight", "color"), dtypes, ((1), (1), (3)), voxel, resolution, blocks
        )

        def integrate(frame: RGBDFrame) -> None:
            camera, extrinsic = frame.grid_intrinsic, o3d.core.Tensor(frame.extrinsic)
            limits = frame.depth_scale, 100.0, 4.0
            touched = grid.compute_unique_block_coordinates(frame.depth, camera, extrinsic, *limits)
            grid.integrate(touched, frame.depth, frame.color, camera, camera, extrinsic, *limits)

        yield from _each(scan, options, integrate)
        if grid.hashmap().capacity() > blocks:
            print(f"note: the grid of {resolution} voxels was too small and grew")

    return method


def _legacy(scan: Scan, voxel: float, options: Speed) -> Iterator[None]:
    """Open3D's older volume."""
    volume = o3d.pipelines.integration.ScalableTSDFVolume(
        voxel, 4 * voxel, o3d.pipelines.integration.TSDFVolumeColorType.RGB8
    )

    def integrate(frame: RGBDFrame) -> None:
        volume.integrate(frame.rgbd(), frame.intrinsic, frame.extrinsic)

    yield from _each(scan, options, integrate)


def _reading(scan: Scan, voxel: float, options: Speed) -> Iterator[None]:
    """Only reads, as the two of Open3D do: take it off them for their bare integration."""
    yield from _each(scan, options, lambda frame: None)


def _each(scan: Scan, options: Speed, integrate: Callable[[RGBDFrame], None]) -> Iterator[None]:
    dataset = ScanDataset(scan)
    yield
    for i in range(options.frames):
        integrate(dataset[i])
        yield


METHODS: dict[str, Callable[[Scan, float, Speed], Iterator[None]]] = {
    "mem3r fuse": _ours,
    "VoxelBlockGrid, 16 voxels": _voxel_block_grid(16),
    "VoxelBlockGrid, 8 voxels": _voxel_block_grid(8),
    "ScalableTSDFVolume": _legacy,
    "reading alone": _reading,
}
"""What is compared: yields once when it is set up, then after every frame."""


@dataclass(frozen=True)
class Long:
    """Peak memory and time a frame of a long scan, with and without a tight limit."""

    scan: tyro.conf.Positional[Path]
    """The scan."""
    voxel: float = 0.02
    """Voxel size."""
    memory: tuple[str, ...] = ("1GB", "8GB")
    """Limits; each has a process of its own."""
    work: Path = Path("/tmp/fusion")
    """Folder for what is written."""

    def __call__(self) -> None:
        """Print a row for every limit."""
        self.work.mkdir(parents=True, exist_ok=True)
        for memory in self.memory:
            child = [
                sys.executable,
                __file__,
                "child",
                str(self.scan),
                str(self.work / f"{memory}.ply"),
            ]
            child += ["--voxel", str(self.voxel), "--memory", memory]
            print(
                subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout,
                flush=True,
            )


@dataclass(frozen=True)
class Child:
    """One fusion of `long`."""

    scan: tyro.conf.Positional[Path]
    """The scan."""
    output: tyro.conf.Positional[Path]
    """The mesh."""
    voxel: float
    """Voxel size."""
    memory: str
    """Limit."""

    def __call__(self) -> None:
        """Print what was measured as JSON."""
        scan = Scan.open(self.scan)
        config = FusionConfig(voxel=self.voxel, memory=self.memory)
        _warm_up(scan, config, self.output)
        fixed = psutil.Process().memory_info().rss
        marks: list[float] = []

        def progress(stage: str, done: int, total: int) -> None:
            if stage == "fusing depth":
                marks.append(time.process_time())

        start, clock = time.process_time(), time.perf_counter()
        report = fuse(scan, self.output, config, overwrite=True, progress=progress)
        times = np.diff(marks)
        middle = len(times) // 10
        window = min(200, middle)
        record = {
            "memory": self.memory,
            "fixed_mb": round(fixed / 1e6),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
            "frames": report.frames,
            "ms_per_frame_at_tenth": 1e3
            * times[middle - window // 2 : middle + window // 2].mean(),
            "ms_per_frame_at_end": 1e3 * times[-window:].mean(),
            "ms_per_frame": 1e3 * times.mean(),
            "processor_s": time.process_time() - start,
            "clock_s": time.perf_counter() - clock,
            "state_mb": round(self.output.with_suffix(".tsdf").stat().st_size / 1e6),
            "vertices": report.vertices,
            "faces": report.faces,
            "mesh": hashlib.sha256(self.output.read_bytes()).hexdigest()[:16],
        }
        print(json.dumps(record, indent=2))


def _warm_up(scan: Scan, config: FusionConfig, output: Path) -> None:
    """Load what every fusion loads, whatever its size: libraries and compiled code."""
    with BlockStore(output.with_suffix(".warm")) as store:
        frame = scan_frame(scan, 0, config)
        small = replace(resolve(config, store, frame), memory="400MB")
        volume = Fusion(store, small).volume
        volume.integrate(frame)


@dataclass(frozen=True)
class Refuse:
    """Time of bringing a fusion up to date after some poses moved, beside a fresh one."""

    scan: tyro.conf.Positional[Path]
    """The scan."""
    voxel: float = 0.01
    """Voxel size."""
    share: float = 0.05
    """Share of the poses that move: a run of frames in the middle."""
    work: Path = Path("/tmp/fusion")
    """Folder for what is written."""

    def __call__(self) -> None:
        """Print both times and how far the meshes differ."""
        self.work.mkdir(parents=True, exist_ok=True)
        config = FusionConfig(voxel=self.voxel)
        moved = self._moved_scan()
        begun, fresh = self.work / "begun.ply", self.work / "fresh.ply"
        for name, scan, output, resume in (
            ("first fusion", self.scan, begun, False),
            ("fresh fusion", moved, fresh, False),
            ("re-fusion", moved, begun, True),
        ):
            marks: dict[str, float] = {}

            def progress(
                stage: str, done: int, total: int, marks: dict[str, float] = marks
            ) -> None:
                marks[stage] = time.process_time()

            start = time.process_time()
            report = fuse(
                Scan.open(scan),
                output,
                config,
                resume=resume,
                overwrite=not resume,
                progress=progress,
            )
            fused = marks.get("fusing depth", start) - start
            print(
                f"{name}: {time.process_time() - start:.2f} s of processor, {fused:.2f} s of it before the "
                f"surface; {report.added} fused, {report.removed} taken out, {report.vertices} vertices",
                flush=True,
            )
        print(f"mean and largest distance: {_distances(begun, fresh)} of voxel {self.voxel}")

    def _moved_scan(self) -> Path:
        """The scan with a run of frames moved by some centimetres; its files are links."""
        scan = Scan.open(self.scan)
        path = self.work / "moved"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for entry in scan.path.iterdir():
            (path / entry.name).symlink_to(entry)
        (path / FRAMES).unlink()
        first = len(scan) // 2
        last = first + max(1, round(self.share * len(scan)))
        nudge = pose_matrix(np.eye(3), [0.03, -0.02, 0.01])
        lines = [
            replace(
                frame,
                camera_to_world=nudge @ frame.camera_to_world
                if first <= frame.index < last
                else frame.camera_to_world,
            ).to_line()
            for frame in scan.frames
        ]
        (path / FRAMES).write_bytes(b"".join(lines))
        return path


def _distances(first: Path, second: Path) -> str:
    clouds = [o3d.io.read_point_cloud(str(path)) for path in (first, second)]
    ways = [clouds[i].compute_point_cloud_distance(clouds[1 - i]) for i in range(2)]
    values = np.concatenate([np.asarray(way) for way in ways])
    return f"{values.mean():.2e}, {values.max():.2e}"


Command = (
    Annotated[Speed, tyro.conf.subcommand("speed")]
    | Annotated[Long, tyro.conf.subcommand("long")]
    | Annotated[Child, tyro.conf.subcommand("child")]
    | Annotated[Refuse, tyro.conf.subcommand("refuse")]
)

if __name__ == "__main__":
    tyro.cli(Command, config=(tyro.conf.OmitSubcommandPrefixes,))()  # type: ignore[call-overload]
