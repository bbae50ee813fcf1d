"""A scan in, a scan with refined poses, camera and depth out."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import tyro

from mem3r_plugin.errors import ConfigError, ScanError
from mem3r_plugin.files import write_atomically
from mem3r_plugin.pictures import refined_depth_sheet, refined_trajectory_plot
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.refine.aligned import aligned_estimates
from mem3r_plugin.refine.depth.sequence import DepthConfig
from mem3r_plugin.refine.estimates import Estimates, own_estimates, refined_estimates
from mem3r_plugin.refine.outcome import REASONS, ScoreBook, choose_result
from mem3r_plugin.refine.posed import PosedFrames
from mem3r_plugin.refine.poses import PoseConfig, PoseReport, refine_poses
from mem3r_plugin.refine.scale import carry_scale, measure_scale
from mem3r_plugin.refine.score import ScanScore, Tracks, score_scan
from mem3r_plugin.refine.straight import StraightScan
from mem3r_plugin.refine.writing import Result, ResultWriter
from mem3r_plugin.scan import Scan, ScanSink, Structure
from mem3r_plugin.scan.format import FRAMES, HEADER, MetricScale, ScanHeader
from mem3r_plugin.scan.output_errors import output_errors
from mem3r_plugin.scan.reader import read_header

WORKSPACE = "refine"
"""Folder of the refined scan with the stages of the work; only the poses stay when it is complete."""

REPORT = "report.json"
TRAJECTORY = "trajectory.png"
DEPTH_SHEET = "depth.png"
KEEP_SCALE = "keep"

_KEPT_STAGES = ("poses.npz", "poses.json")
_NO_ROOM = 16 << 20  # bytes that a database may want at once
_NOTHING_FOUND = "the pictures share too little for geometry to say anything"


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
    scale: str = KEEP_SCALE
    """What the length of the refined scan's unit is measured by: `keep` carries the scan's own scale over,
    see `mem3r scale --help` for the others."""
    overwrite: bool = False
    """Replace a refined scan that already lies in the output folder."""


@dataclass(frozen=True)
class RefineReport:
    """What became of a refinement: `report.json` of the refined scan."""

    result: Result
    """Whether refined poses and depth were kept, refined poses with the network's depth aligned to the
    points, or the scan as it was."""
    reason: str
    """Why, in words."""
    poses: PoseReport
    """How the poses were found."""
    score_before: ScanScore
    """The scan's score."""
    score: ScanScore
    """The refined scan's."""
    depth_residuals: dict[str, float]
    """Median relative error of the network's depth after alignment, by name of frame."""

    def save(self, scan: Path) -> None:
        """Write it into the folder of a refined scan."""
        text = json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"
        write_atomically(scan / REPORT, text.encode())

    @classmethod
    def load(cls, scan: Path) -> RefineReport:
        """Read that of the refined scan in a folder.

        Raises:
            ScanError: there is none, or it is damaged.
        """
        file = scan / REPORT
        try:
            record: dict[str, Any] = json.loads(file.read_text())
            return cls(
                result=record["result"],
                reason=record["reason"],
                poses=PoseReport(
                    **{**record["poses"], "warnings": tuple(record["poses"]["warnings"])}
                ),
                score_before=ScanScore.from_record(record["score_before"]),
                score=ScanScore.from_record(record["score"]),
                depth_residuals=record["depth_residuals"],
            )
        except FileNotFoundError:
            raise ScanError(f"{scan} was not refined: it has no {REPORT}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScanError(
                f"{file} is damaged ({error}); refine again with --overwrite"
            ) from error


def refine(config: RefineConfig, progress: ProgressCallback = no_progress) -> Scan:
    """Refine the poses of a scan, its camera and its depth.

    Stopped or killed, it goes on where it was when called again, and comes to the same result. The
    score decides what is kept, so that the output is never worse than the scan: see `choose_result`.

    Args:
        config: What to do.
        progress: Is told how far it is.

    Raises:
        ConfigError: the output is the scan itself, or `scale` cannot be read.
        SourceError: a file that `scale` names is missing or damaged.
        ScanError: the scan cannot be read, or the output holds something else.
        OutputError: the output cannot be written.
    """
    scan = Scan.open(config.scan)
    output = _check(scan, config)
    header = _header(scan, config)
    if _prepare(output, header, config.overwrite):
        _clear(output / WORKSPACE)
        return Scan.open(output)
    with output_errors(output):
        with _no_room_told(output):
            posed, poses = refine_poses(scan, output / WORKSPACE, config.poses, progress)
        refinement = _Refinement(scan, posed, output, header, config.depth, progress)
        refined = refinement.settle()
        refinement.report(poses).save(output)
        _draw(scan, refined, progress)
        refinement.complete(_scale(scan, refined, config.scale))
        _clear(output / WORKSPACE)
    return Scan.open(output)


@contextmanager
def _no_room_told(folder: Path) -> Iterator[None]:
    """Say that the disk is full where pycolmap, whose database it hits, only says that it failed."""
    try:
        yield
    except RuntimeError as error:
        if shutil.disk_usage(folder).free > _NO_ROOM:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


class _Refinement:
    """Writes and scores the possible results of a refinement until it holds the one to keep."""

    def __init__(
        self,
        scan: Scan,
        posed: PosedFrames,
        output: Path,
        header: ScanHeader,
        config: DepthConfig,
        progress: ProgressCallback,
    ) -> None:
        self._scan, self._posed, self._output = scan, posed, output
        self._config, self._progress = config, progress
        self._workspace = output / WORKSPACE
        self._writer = ResultWriter(output, header, self._workspace)
        self._scores = ScoreBook(self._workspace / "scores.json")
        self._tracks = Tracks(posed.frames, posed.rows, posed.pixels)

    def settle(self) -> Scan:
        """Write the best result and what belongs to it; the scan is not marked as complete yet."""
        result = choose_result(self.score) if len(self._posed.points) else "own"
        scan = self.write(result)
        if result != "own":
            posed = self._posed
            Structure(posed.points, posed.frames, posed.rows, posed.pixels).save(self._output)
        return scan

    def score(self, result: Result) -> ScanScore:
        """The score of a result, which is written for it."""
        return self._scores.get(
            result,
            lambda: score_scan(
                self._scan if result == "own" else self.write(result), self._tracks, self._progress
            ),
        )

    def write(self, result: Result) -> Scan:
        """Make a result what the output holds."""
        bent = result != "own" and self._posed.undistortion is not None
        return self._writer.write(
            result, len(self._scan), lambda start: self._estimates(result, start), copy_images=bent
        )

    def complete(self, scale: MetricScale | None) -> None:
        """Mark what the output holds as complete."""
        self._writer.complete(scale)

    def report(self, poses: PoseReport) -> RefineReport:
        """What came of it."""
        result = self._writer.result
        assert result is not None
        named = zip(self._scan.frames, self._writer.residuals(), strict=True)
        return RefineReport(
            result=result,
            reason=REASONS[result] if len(self._posed.points) else _NOTHING_FOUND,
            poses=poses,
            score_before=self.score("own"),
            score=self.score(result),
            depth_residuals={frame.name: value for frame, value in named if value is not None},
        )

    def _estimates(self, result: Result, start: int) -> Estimates:
        """The frames of a result, each with the network's feature and, if undistorted, its picture."""
        scan, bent = self._scan, self._posed.undistortion
        if result != "own" and bent is not None:
            scan = StraightScan(scan, bent)
        for estimate, residual in self._bare_estimates(scan, result, start):
            frame = estimate.frame
            if isinstance(scan, StraightScan):
                frame = replace(frame, image=scan.image(frame.index), path=None)
            yield replace(estimate, frame=frame, feature=scan.feature(frame.index)), residual

    def _bare_estimates(self, scan: Scan, result: Result, start: int) -> Estimates:
        posed, progress = self._posed, self._progress
        if result == "refined":
            return refined_estimates(scan, posed, self._config, self._workspace, progress, start)
        progress("writing the network's depth", 0, 0)
        own = aligned_estimates(scan, posed) if result == "aligned" else own_estimates(scan)
        return islice(own, start, None)


def _check(scan: Scan, config: RefineConfig) -> Path:
    """The output folder, once it is clear that the work can be done."""
    if scan.camera_mode != "shared":
        raise ScanError(
            f"{scan.path} has a camera of its own for every frame; refine adjusts one shared camera: run "
            "again with --camera shared"
        )
    output = (config.output or scan.path.with_name(f"{scan.path.name}-refined")).resolve()
    if output == scan.path:
        raise ConfigError(f"{output} is the scan itself; choose another --output")
    if config.scale != KEEP_SCALE:
        measure_scale(scan, config.scale)  # a mistake in it shows before the work
    return output


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
    # By way of JSON, so that it can be compared with what a file says.
    return ScanHeader(
        model=scan.header.model,
        settings=json.loads(json.dumps({**scan.header.settings, "refine": refinement})),
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
    if (output / HEADER).exists():
        shutil.rmtree(output / WORKSPACE, ignore_errors=True)
        for name in (REPORT, TRAJECTORY, DEPTH_SHEET):
            (output / name).unlink(missing_ok=True)
    sink = ScanSink(output, header, overwrite=overwrite)
    sink.open()
    sink.close(complete=False)
    return False


def _draw(scan: Scan, refined: Scan, progress: ProgressCallback) -> None:
    progress("drawing pictures", 0, 0)
    refined_trajectory_plot(scan, refined, refined.path / TRAJECTORY)
    refined_depth_sheet(scan, refined, refined.path / DEPTH_SHEET)


def _scale(scan: Scan, refined: Scan, known: str) -> MetricScale | None:
    if known == KEEP_SCALE:
        return carry_scale(scan, refined)
    return measure_scale(refined, known)


def _clear(workspace: Path) -> None:
    """Remove what only the work itself needs: pictures, features, maps of depth."""
    for entry in workspace.glob("*"):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name not in _KEPT_STAGES:
            entry.unlink()
