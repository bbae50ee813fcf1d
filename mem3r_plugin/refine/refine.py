"""A scan in, a scan with refined poses, camera and depth scale out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import tyro

from mem3r_plugin.errors import ConfigError, ScanError
from mem3r_plugin.files import write_atomically
from mem3r_plugin.refine.depth import DepthConfig
from mem3r_plugin.refine.estimates import own_estimates, refined_estimates
from mem3r_plugin.refine.poses import PoseConfig, PoseReport, refine_poses
from mem3r_plugin.refine.scale import measure_scale
from mem3r_plugin.refine.score import ScanScore, Tracks, is_worse, score_scan
from mem3r_plugin.scan import Scan, ScanMark, ScanSink
from mem3r_plugin.scan.format import FRAMES, HEADER, ScanHeader
from mem3r_plugin.scan.output_errors import output_errors
from mem3r_plugin.scan.reader import read_header
from mem3r_plugin.stream.estimate import FrameEstimate

WORKSPACE = "refine"
"""Folder of the refined scan with the stages of the work: pictures, matches, sparse model."""

REPORT = "report.json"


@dataclass(frozen=True)
class RefineConfig:
    """A refinement of one scan into another."""

    scan: tyro.conf.Positional[Path]
    """Folder of the scan; it is only read."""
    output: Path | None = None
    """Folder of the refined scan; by default the scan's name with `-refined` behind it."""
    poses: PoseConfig = field(default_factory=PoseConfig)
    """How poses are refined."""
    depth: DepthConfig = field(default_factory=DepthConfig)
    """How depth is refined."""
    scale: str = "unknown"
    """What the length of the refined scan's unit is measured by; see `mem3r scale --help`."""
    overwrite: bool = False
    """Replace a refined scan that already lies in the output folder."""


def refine(config: RefineConfig, tell: Callable[[str], None] = lambda _: None) -> Scan:
    """Refine the poses of a scan, its camera and its depth.

    Stopped or killed, it goes on where it was when called again, and comes to the same result. A
    refinement that explains the pictures worse than the scan did is refused: the output then has the
    scan's own poses and depth, and says so.

    Args:
        config: What to do.
        tell: Is told what comes next, in words for a user.

    Raises:
        ConfigError: the output is the scan itself, or `scale` cannot be read.
        SourceError: a file that `scale` names is missing or damaged.
        ScanError: the scan cannot be read, or the output holds something else.
        OutputError: the output cannot be written.
    """
    scan = Scan.open(config.scan)
    if scan.camera_mode != "shared":
        raise ScanError(
            f"{scan.path} has a camera of its own for every frame; refine adjusts one shared camera: run "
            "again with --camera shared"
        )
    output = (config.output or scan.path.with_name(f"{scan.path.name}-refined")).resolve()
    if output == scan.path:
        raise ConfigError(f"{output} is the scan itself; choose another --output")
    measure_scale(scan, config.scale)  # a mistake in it shows before the work
    header = _header(scan, config)
    if _prepare(output, header, config.overwrite):
        return Scan.open(output)
    with output_errors(output):
        posed, report = refine_poses(scan, output / WORKSPACE, config.poses, tell)
        tell(f"writing {output}")
        residuals = {}
        if len(posed.points):
            residuals = _write(output, header, refined_estimates(scan, posed, config.depth))
        else:
            _write(output, header, own_estimates(scan))
        tracks = Tracks(posed.frames, posed.rows, posed.pixels)
        before, after = score_scan(scan, tracks), score_scan(Scan.open(output), tracks)
        refused = is_worse(after, before)
        if refused:
            _write(output, header, own_estimates(scan))
        _finish(output, config.scale, report, residuals, before, after, refused)
    return Scan.open(output)


def _header(scan: Scan, config: RefineConfig) -> ScanHeader:
    """The refined scan's record: the scan's own, and how it was refined."""
    content = hashlib.sha256()
    for name in (HEADER, FRAMES):
        content.update((scan.path / name).read_bytes())
    refinement = {
        "scan": str(scan.path),
        "scan_sha256": content.hexdigest(),
        "poses": asdict(config.poses),
        "depth": asdict(config.depth),
        "scale": config.scale,
    }
    return ScanHeader(
        model=scan.header.model,
        settings={**scan.header.settings, "refine": refinement},
        source=scan.header.source,
        camera_origin=scan.header.camera_origin,
        skipped=scan.header.skipped,
    )


def _prepare(output: Path, header: ScanHeader, overwrite: bool) -> bool:
    """Make the output folder ready; returns whether the work is done already.

    Raises:
        ScanError: it holds a scan that was made in another way.
        OutputError: it holds something else.
    """
    if (output / HEADER).exists() and not overwrite:
        found = read_header(output)
        if found.settings != header.settings:
            raise ScanError(
                f"{output} holds another scan, or one refined with other settings; replace it with "
                "--overwrite or choose another --output"
            )
        return found.complete
    if output.is_dir() and (output / HEADER).exists():
        shutil.rmtree(output / WORKSPACE, ignore_errors=True)
        (output / REPORT).unlink(missing_ok=True)
    sink = ScanSink(output, header, overwrite=overwrite)
    sink.open()
    sink.close(complete=False)
    return False


def _write(
    output: Path, header: ScanHeader, estimates: Iterator[tuple[FrameEstimate, float | None]]
) -> dict[str, float]:
    """Write every frame; returns the depth residuals by name of frame. The scan stays incomplete."""
    sink = ScanSink(output, header, resume_from=ScanMark(0, header.skipped, 0))
    residuals = {}
    try:
        sink.open()
        for estimate, residual in estimates:
            sink.write(estimate)
            if residual is not None:
                residuals[estimate.frame.name] = residual
    finally:
        sink.close(complete=False)
    return residuals


def _finish(
    output: Path,
    scale: str,
    report: PoseReport,
    residuals: dict[str, float],
    before: ScanScore,
    after: ScanScore,
    refused: bool,
) -> None:
    """Write the report, measure the scale, then mark the scan as complete."""
    record = {
        "poses": asdict(report),
        "depth_residuals": residuals,
        "refused": refused,
        "score_before": asdict(before),
        "score": asdict(before if refused else after),
    }
    write_atomically(output / REPORT, (json.dumps(record, indent=2) + "\n").encode())
    written = Scan.open(output)
    header = replace(written.header, scale=measure_scale(written, scale))
    mark = ScanMark(len(written), header.skipped, header.clipped_depths)
    sink = ScanSink(output, header, resume_from=mark)
    sink.open()
    sink.close(complete=True)
    shutil.rmtree(output / WORKSPACE / "pictures", ignore_errors=True)
