"""The metric scale of a scan, from something whose length is known.

A picture tells no lengths, so the unit of a scan is arbitrary until it is measured against the world:

    cameras:000.jpg,120.jpg=1.25            distance between two cameras, metres
    points:000.jpg,310,200,000.jpg,420,210=0.80   distance between what two pixels (x, y) show
    depth:FOLDER                            depth maps (16-bit PNG, millimetres) named like the frames
    track:FILE                              positions from GPS or the like: lines `timestamp x y z`
    unknown

A length may carry its own standard deviation: `=1.25+-0.01`; one centimetre is assumed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.evaluation.layouts.files import numbers, stored_depth
from mem3r_plugin.files import write_atomically
from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.refine.depth.network import sample_depth
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import HEADER, MetricScale
from mem3r_plugin.scan.output_errors import output_errors

_FORMS = "cameras:FRAME,FRAME=METRES, points:FRAME,X,Y,FRAME,X,Y=METRES, depth:FOLDER, track:FILE or unknown"
_TAPE = 0.01
"""Standard deviation, in metres, of a length for which none is given."""
_DEPTH_PER_METRE = 1000.0
_DEPTH_STRIDE = 8
_GAUSSIAN = 1.4826
"""Standard deviation of a Gaussian in units of its median absolute deviation."""


def measure_scale(scan: Scan, known: str) -> MetricScale | None:
    """The length of a scan's unit from something known; None for `unknown`.

    Args:
        scan: The scan.
        known: One of the forms above. Frames are named as in the scan.

    Raises:
        ConfigError: `known` has none of these forms, or names no frame or no depth of the scan.
        SourceError: a file it names is missing or damaged, or shares too little with the scan.
    """
    kind, _, what = known.partition(":")
    if known == "unknown":
        return None
    if kind == "depth" and what:
        return _from_depth(scan, Path(what))
    if kind == "track" and what:
        return _from_track(scan, Path(what))
    names, _, length = what.rpartition("=")
    metres, deviation = _length(length, known)
    parts = names.split(",")
    if kind == "cameras" and len(parts) == 2:
        ends = [_frame_pose(scan, name)[:3, 3] for name in parts]
        return _from_length(ends, metres, deviation, 0.0, f"distance between cameras {names}")
    if kind == "points" and len(parts) == 6:
        seen = [_point(scan, *parts[:3]), _point(scan, *parts[3:])]
        spread = float(np.hypot(seen[0][1], seen[1][1]))
        ends = [point for point, _ in seen]
        return _from_length(ends, metres, deviation, spread, f"distance between points {names}")
    raise ConfigError(f"cannot read the scale {known!r}; give {_FORMS}")


def carry_scale(scan: Scan, refined: Scan) -> MetricScale | None:
    """The scale of a scan for another scan of the same frames; None where it is unknown.

    How long a unit of one is in units of the other is measured twice, along the two trajectories and
    by the two depths; the way that leaves less over is taken. What it leaves over adds to the
    uncertainty.
    """
    if scan.scale is None:
        return None
    ratio, spread = min(
        _trajectory_ratio(scan, refined), _depth_ratio(scan, refined), key=lambda way: way[1]
    )
    if not np.isfinite(spread):
        return None
    known = scan.scale
    return MetricScale(
        known.metres_per_unit * ratio,
        float(np.hypot(known.relative_uncertainty, spread)),
        known.source,
    )


def write_scale(scan: Scan, scale: MetricScale | None) -> Scan:
    """Keep a scale in the scan's `scan.json`, which is replaced as a whole, and open it again.

    Raises:
        OutputError: the file cannot be written.
    """
    header = replace(scan.header, scale=scale)
    with output_errors(scan.path):
        write_atomically(scan.path / HEADER, header.to_json().encode(), durable=True)
    return Scan.open(scan.path)


def _length(text: str, known: str) -> tuple[float, float]:
    """Metres and their standard deviation."""
    value, _, deviation = text.partition("+-")
    try:
        metres, spread = float(value), float(deviation or _TAPE)
    except ValueError:
        raise ConfigError(f"cannot read the scale {known!r}; give {_FORMS}") from None
    if not (metres > 0 and spread >= 0):
        raise ConfigError(f"the length in {known!r} must be positive")
    return metres, spread


def _from_length(
    ends: list[NDArray[np.float64]], metres: float, deviation: float, spread: float, source: str
) -> MetricScale:
    """The scale from a distance of two places whose own uncertainty is `spread`, in scan units."""
    units = float(np.linalg.norm(ends[0] - ends[1]))
    if units < 1e-9:
        raise ConfigError(f"the {source} is zero in this scan, so it gives no scale")
    relative = float(np.hypot(deviation / metres, spread / units))
    return MetricScale(metres / units, relative, source)


def _frame(scan: Scan, name: str) -> int:
    for frame in scan.frames:
        if frame.name == name.strip():
            return frame.index
    raise ConfigError(f"{scan.path} has no frame called {name.strip()!r}")


def _frame_pose(scan: Scan, name: str) -> NDArray[np.float64]:
    return scan.frames[_frame(scan, name)].camera_to_world


def _point(scan: Scan, name: str, x: str, y: str) -> tuple[NDArray[np.float64], float]:
    """What a pixel shows, in the world (3,), and how much the depth around it varies."""
    index = _frame(scan, name)
    try:
        pixel = np.array([float(x), float(y)])
    except ValueError:
        raise ConfigError(f"{x},{y} is no pixel: give X,Y in the picture {name}") from None
    column, row = np.floor(scan.transform.pixels(pixel)).astype(int).tolist()
    depth = scan.depth(index)
    patch = depth[max(row - 1, 0) : max(row + 2, 0), max(column - 1, 0) : max(column + 2, 0)]
    patch = patch[patch > 0].astype(np.float64)
    if patch.size == 0:
        raise ConfigError(f"the scan has no depth at pixel {x},{y} of {name}")
    median = float(np.median(patch))
    local = scan.frame_camera(index).unproject(pixel, np.array(median))
    point = transform_points(scan.frames[index].camera_to_world, local)
    return point, _GAUSSIAN * float(np.median(np.abs(patch - median)))


def _from_depth(scan: Scan, folder: Path) -> MetricScale:
    """Median ratio of depths; its uncertainty is how much frames differ, or pixels of a single one."""
    decode = stored_depth(_DEPTH_PER_METRE)
    grid = np.s_[::_DEPTH_STRIDE, ::_DEPTH_STRIDE]
    medians, pixels = [], []
    for index, frame in enumerate(scan.frames):
        file = folder / f"{Path(frame.name).stem}.png"
        if not file.is_file():
            continue
        metres, units = decode(file), scan.original_depth(index)
        if metres.shape != units.shape:
            raise SourceError(f"{file} does not have the size of the scan's pictures")
        known = (metres[grid] > 0) & (units[grid] > 0)
        if known.any():
            pixels.append(metres[grid][known] / units[grid][known])
            medians.append(float(np.median(pixels[-1])))
    if not medians:
        raise SourceError(f"no PNG in {folder} is named like a frame of {scan.path} and has depth")
    values = np.array(medians) if len(medians) > 2 else np.concatenate(pixels)
    scale = float(np.median(medians))
    spread = _GAUSSIAN * float(np.median(np.abs(values - scale))) / scale
    return MetricScale(scale, spread, f"depth of {len(medians)} frames in {folder}")


def _from_track(scan: Scan, file: Path) -> MetricScale:
    """The similarity that brings cameras onto positions; its uncertainty is what it leaves over."""
    track = numbers(file)
    if track.shape[1] < 4 or len(track) < 2:
        raise SourceError(f"{file} is not a track: a line is 'timestamp x y z', at least twice")
    track = track[np.argsort(track[:, 0])]
    times = np.array([frame.timestamp for frame in scan.frames])
    during = (times >= track[0, 0]) & (times <= track[-1, 0])
    if during.sum() < 3:
        raise SourceError(f"{file} covers {during.sum()} frames of {scan.path}; three are needed")
    centres = np.stack([frame.camera_to_world[:3, 3] for frame in scan.frames])[during]
    positions = np.stack([np.interp(times[during], track[:, 0], track[:, i]) for i in (1, 2, 3)], 1)
    similarity = umeyama(centres, positions)
    extent = np.sqrt(np.sum((positions - positions.mean(axis=0)) ** 2))
    if not (extent > 0 and similarity.scale > 0 and np.ptp(centres, axis=0).any()):
        raise SourceError(f"{file} or {scan.path} does not move, so they give no scale")
    left_over = np.sqrt(np.sum((similarity.points(centres) - positions) ** 2))
    return MetricScale(similarity.scale, float(left_over / extent), f"track {file}")


_Ratio = tuple[float, float]
"""Units of one scan that one unit of the other is long, and its relative standard deviation."""

_NO_RATIO: _Ratio = (1.0, np.inf)


def _trajectory_ratio(scan: Scan, refined: Scan) -> _Ratio:
    """By the similarity that brings the refined cameras onto the scan's."""
    target = np.stack([frame.camera_to_world[:3, 3] for frame in scan.frames])
    source = np.stack([frame.camera_to_world[:3, 3] for frame in refined.frames])
    extent = np.sqrt(np.sum((target - target.mean(axis=0)) ** 2))
    if len(target) < 3 or not extent > 0:
        return _NO_RATIO
    similarity = umeyama(source, target)
    left_over = np.sqrt(np.sum((similarity.points(source) - target) ** 2))
    return (similarity.scale, float(left_over / extent)) if similarity.scale > 0 else _NO_RATIO


def _depth_ratio(scan: Scan, refined: Scan) -> _Ratio:
    """By the median ratio of depths in every frame; frames differ by the deviation."""
    grid = np.s_[::_DEPTH_STRIDE, ::_DEPTH_STRIDE]
    centres = refined.network_camera.pixel_centres()[grid].reshape(-1, 2)
    pixels = refined.transform.inverse.pixels(centres)
    medians = []
    for index in range(len(scan)):
        ours = refined.depth(index)[grid].ravel()
        theirs = sample_depth(scan, index, pixels)
        known = (ours > 0) & (theirs > 0)
        if known.any():
            medians.append(float(np.median(theirs[known] / ours[known])))
    if not medians:
        return _NO_RATIO
    ratio = float(np.median(medians))
    return ratio, _GAUSSIAN * float(np.median(np.abs(np.array(medians) - ratio))) / ratio
