"""How well a scan agrees with itself: a score that needs no ground truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan

COMPARING = "comparing depth between pictures"
"""The stage that a `ProgressCallback` is told of."""

_OTHERS = (-20, -5, -1, 1, 5, 20)
"""Frames, counted from a frame, that its depth is compared with."""
_DEPTH_STRIDE = 6
_MIN_OVERLAP = 20
"""Pixels that must fall into the other picture for the two depths to be compared."""
_LOOP_GAP = 30
"""A point not seen for so many frames between two sightings closes a loop."""
_MIN_POINTS = 15
_WEAK_DEPTH = 0.1
_WEAK_REPROJECTION = 3.0
_WEAK_STRETCH = 3
"""Shorter runs of weak frames get no warning."""
_NAMED_STRETCHES = 5
"""A warning names so many stretches, the longest ones."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """M sightings of P points, found in the pictures alone; no pose went into them."""

    frames: NDArray[np.int64]
    """The frame of every sighting, shape (M,)."""
    rows: NDArray[np.int64]
    """The point of every sighting, from 0 to P - 1, shape (M,)."""
    pixels: FloatArray
    """Where it is seen, original pixels, shape (M, 2)."""


@dataclass(frozen=True)
class FrameScore:
    """What speaks for or against one frame; None where nothing can be said."""

    name: str
    """The frame's name."""
    depth_disagreement: float | None
    """Median relative difference between its depth and that of overlapping frames."""
    reprojection_error: float | None
    """Median over the points it sees, in original pixels."""
    points: int
    """Number of points it sees."""
    track_length: float | None
    """Mean number of frames that see these points."""


@dataclass(frozen=True)
class ScanScore:
    """The same for a whole scan."""

    depth_disagreement: float | None
    """Median over the frames."""
    reprojection_error: float | None
    """Median over all sightings, in original pixels."""
    track_length: float | None
    """Mean number of frames that see a point."""
    loop_residual: float | None
    """Median reprojection error of points seen again after a long time; None without such points."""
    warnings: tuple[str, ...]
    """Which stretches are weak and why, one sentence each."""
    frames: tuple[FrameScore, ...]
    """Every frame."""

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> ScanScore:
        """The inverse of `dataclasses.asdict`, by way of JSON or not."""
        frames = tuple(FrameScore(**frame) for frame in record["frames"])
        return cls(**{**record, "warnings": tuple(record["warnings"]), "frames": frames})


def score_scan(
    scan: Scan, tracks: Tracks | None = None, progress: ProgressCallback = no_progress
) -> ScanScore:
    """Score a scan by its poses and depth, and by tracks of points if there are any.

    Points are triangulated at the scan's own poses, so scores of two scans of the same pictures can be
    compared if the same tracks are given to both.
    """
    # A frame is compared with those around it, whose maps are kept.
    load_depth = lru_cache(maxsize=2 * max(_OTHERS) + 2)(scan.depth)
    disagreement = []
    for index in range(len(scan)):
        disagreement.append(depth_disagreement(scan, load_depth, index))
        progress(COMPARING, index + 1, len(scan))
    if tracks is None or not len(tracks.rows):
        frames = tuple(
            FrameScore(frame.name, value, None, 0, None)
            for frame, value in zip(scan.frames, disagreement, strict=True)
        )
        return ScanScore(
            _median(disagreement), None, None, None, weakness_warnings(frames, False), frames
        )
    error = reprojection_errors(scan, tracks)
    lengths = np.bincount(tracks.rows)
    loops = _closes_loop(tracks)
    frames = tuple(
        _score_frame(scan, index, disagreement[index], tracks, error, lengths)
        for index in range(len(scan))
    )
    return ScanScore(
        depth_disagreement=_median(disagreement),
        reprojection_error=float(np.median(error)),
        track_length=float(lengths[lengths > 0].mean()),
        loop_residual=float(np.median(error[loops])) if loops.any() else None,
        warnings=weakness_warnings(frames, True),
        frames=frames,
    )


def is_worse(score: ScanScore, than: ScanScore) -> bool:
    """Whether one scan of some pictures is less consistent than another of the same.

    Reprojection decides, as it knows the pictures; depth only where there are no tracks.
    """
    if score.reprojection_error is not None and than.reprojection_error is not None:
        return score.reprojection_error > than.reprojection_error
    if score.depth_disagreement is None:
        return than.depth_disagreement is not None
    return (
        than.depth_disagreement is not None and score.depth_disagreement > than.depth_disagreement
    )


def reprojection_errors(scan: Scan, tracks: Tracks) -> FloatArray:
    """Distance in original pixels between every sighting and its point at the scan's poses, (M,).

    A point is where it is nearest to all the rays that see it. Sightings of points behind the camera
    count as off by the long side of the picture, and nothing counts as more than that.
    """
    poses = np.stack([frame.camera_to_world for frame in scan.frames])
    limit = float(max(scan.camera.width, scan.camera.height))
    rays = np.empty((len(tracks.rows), 3))
    for index in np.unique(tracks.frames).tolist():
        mine = tracks.frames == index
        local = scan.frame_camera(index).unproject(tracks.pixels[mine], np.ones(mine.sum()))
        rays[mine] = local @ poses[index, :3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    points = _nearest_to_rays(poses[tracks.frames, :3, 3], rays, tracks.rows)
    errors = np.full(len(rays), limit)
    for index in np.unique(tracks.frames).tolist():
        mine = np.flatnonzero(tracks.frames == index)
        local = transform_points(invert_pose(poses[index]), points[tracks.rows[mine]])
        front = local[:, 2] > 0
        offset = scan.frame_camera(index).project(local[front]) - tracks.pixels[mine[front]]
        errors[mine[front]] = np.minimum(np.linalg.norm(offset, axis=1), limit)
    return errors


def depth_disagreement(
    scan: Scan, load_depth: Callable[[int], NDArray[np.float32]], index: int
) -> float | None:
    """Median relative difference between a frame's depth and that of frames around it.

    Its points are taken into the other frames' cameras; their depth there is compared with the other
    map's. None where too few points meet another picture.
    """
    grid = np.s_[::_DEPTH_STRIDE, ::_DEPTH_STRIDE]
    camera = scan.frame_network_camera(index)
    depth = load_depth(index)[grid]
    local = camera.unproject(camera.pixel_centres()[grid][depth > 0], depth[depth > 0])
    world = transform_points(scan.frames[index].camera_to_world, local)
    differences = []
    for other in (index + step for step in _OTHERS):
        if not 0 <= other < len(scan):
            continue
        camera = scan.frame_network_camera(other)
        seen = transform_points(invert_pose(scan.frames[other].camera_to_world), world)
        seen = seen[seen[:, 2] > 0]
        pixels = camera.project(seen)
        inside = camera.contains(pixels)
        columns, rows = np.floor(pixels[inside]).astype(np.int64).T
        found = load_depth(other)[rows, columns]
        known = found > 0
        if known.sum() >= _MIN_OVERLAP:
            differences.append(np.abs(found[known] / seen[inside][known, 2] - 1))
    return float(np.median(np.concatenate(differences))) if differences else None


def _nearest_to_rays(
    centres: FloatArray, directions: FloatArray, rows: NDArray[np.int64]
) -> FloatArray:
    """Points (P, 3) with the least sum of squared distances to their rays (M, 3), `rows` of them."""
    count = int(rows.max()) + 1
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    normal, right = np.zeros((count, 3, 3)), np.zeros((count, 3))
    np.add.at(normal, rows, across)
    np.add.at(right, rows, (across @ centres[:, :, None])[:, :, 0])
    # Parallel rays meet nowhere; a whiff of damping puts their point at a finite place.
    damping = 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-30
    return np.linalg.solve(normal + damping * np.eye(3), right[:, :, None])[:, :, 0]


def _score_frame(
    scan: Scan,
    index: int,
    disagreement: float | None,
    tracks: Tracks,
    error: FloatArray,
    lengths: NDArray[np.int64],
) -> FrameScore:
    mine = tracks.frames == index
    points = int(mine.sum())
    return FrameScore(
        scan.frames[index].name,
        disagreement,
        float(np.median(error[mine])) if points else None,
        points,
        float(lengths[tracks.rows[mine]].mean()) if points else None,
    )


def _closes_loop(tracks: Tracks) -> NDArray[np.bool_]:
    """Whether each sighting belongs to a point that was long out of sight, shape (M,)."""
    order = np.lexsort((tracks.frames, tracks.rows))
    rows, frames = tracks.rows[order], tracks.frames[order]
    gaps = (np.diff(rows) == 0) & (np.diff(frames) > _LOOP_GAP)
    return np.isin(tracks.rows, rows[1:][gaps])


def weakness_warnings(frames: tuple[FrameScore, ...], tracked: bool) -> tuple[str, ...]:
    """One sentence for every reason, with the stretches of frames that are weak for it.

    Args:
        frames: The scores of all frames of a scan.
        tracked: Whether there are tracks, so that a frame without points is weak.
    """
    reasons = [_weakness(frame, tracked) for frame in frames]
    stretches: dict[str, list[range]] = {}
    start = 0
    for index in range(1, len(frames) + 1):
        if index < len(frames) and reasons[index] == reasons[start]:
            continue
        if reasons[start] and index - start >= min(_WEAK_STRETCH, len(frames)):
            stretches.setdefault(reasons[start], []).append(range(start, index))
        start = index
    return tuple(f"{_named(frames, weak)} are weak: {why}" for why, weak in stretches.items())


def _named(frames: tuple[FrameScore, ...], stretches: list[range]) -> str:
    """The longest stretches by the names of their ends, in order, and how many others there are."""
    longest = sorted(sorted(stretches, key=len)[-_NAMED_STRETCHES:], key=lambda part: part.start)
    names = [f"{frames[part[0]].name} to {frames[part[-1]].name} ({len(part)})" for part in longest]
    others = stretches[: len(stretches) - len(longest)]
    rest = f" and {len(others)} shorter stretches" if others else ""
    return f"frames {', '.join(names)}{rest}"


def _weakness(frame: FrameScore, tracked: bool) -> str:
    """What is wrong with a frame, in words; empty for a good one."""
    if tracked and frame.points < _MIN_POINTS:
        return (
            "hardly any point is recognised in other pictures; film textured surfaces, more slowly, "
            "in better light"
        )
    if frame.reprojection_error is not None and frame.reprojection_error > _WEAK_REPROJECTION:
        return (
            "the poses do not explain what the pictures show; look for fast turns or moving things"
        )
    if frame.depth_disagreement is None:
        return (
            "their depth maps do not overlap with those around, so the poses cannot be trusted; look "
            "for a cut in the video, or a turn too fast for it"
        )
    if frame.depth_disagreement > _WEAK_DEPTH:
        return (
            "depth differs between neighbouring pictures; look for glass, mirrors or moving things"
        )
    return ""


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
