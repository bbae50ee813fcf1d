"""Depth maps: do points lie as deep as they say?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_check.mistakes import POSE_MISTAKES
from mem3r_check.reading import Reading, Sightings, View
from mem3r_check.verdict import NO_EVIDENCE, Verdict
from mem3r_check.visibility import FEWEST, Places, find_exchanged, spread, visible_points
from mem3r_nerfstudio.axes import APPLIED_TRANSFORM
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points

Views = dict[str, View]
DepthMaps = dict[str, NDArray[np.float64]]

TOLERANCE = 0.1
"""Relative error of depth; also of its scale."""
MIN_SHARE = 0.3
"""Share of the points that have to be as deep as the depth maps say; some are hidden."""

_MARGIN = 0.05
"""Relative error by which a depth map has to fit another pose better to count as exchanged."""
_MAPS = 40
"""Depth maps looked at."""


def check_depth(reading: Reading, sightings: Sightings | None) -> Verdict:
    """Points lie as deep as the depth maps say."""
    files = {name: view.depth for name, view in reading.views.items() if view.depth is not None}
    for name, file in files.items():
        if not file.exists():
            return Verdict("missing", f"the depth map of {name} is missing: {file}")
    if not files or not len(reading.points):
        return NO_EVIDENCE
    maps: DepthMaps = {}
    for name in spread(list(files), _MAPS):
        depth = _read_depth(files[name], reading.depth_unit)
        if depth is None:
            return Verdict("damaged", f"the depth map of {name} is damaged: {files[name]}")
        maps[name] = depth
    scale, share = _scale(reading.views, maps, reading.points, sightings)
    value = f"{100 * share:.0f} %"
    if share < MIN_SHARE:
        return Verdict(value, _explain(reading.views, maps, reading.points, share))
    if abs(np.log(scale)) > np.log1p(TOLERANCE):
        return Verdict(value, f"depth is {scale:.4g} times what the points say: its unit is wrong")
    exchanged = _exchanged(reading, maps, sightings)
    return Verdict(value, exchanged and f"depth maps are shuffled: {exchanged}")


def _read_depth(file: Path, unit: float) -> NDArray[np.float64] | None:
    """A depth map as nerfstudio decodes it; None where it is damaged."""
    if file.suffix == ".npy":
        try:
            return np.load(file).astype(np.float64) * unit
        except (ValueError, OSError):
            return None
    stored = cv2.imread(str(file), cv2.IMREAD_ANYDEPTH)
    return None if stored is None else np.asarray(stored).astype(np.float64) * unit


def _scale(
    views: Views, maps: DepthMaps, points: FloatArray, sightings: Sightings | None
) -> tuple[float, float]:
    """The scale that most points agree on, depth over z, and the share of the points that do."""
    parts = [np.empty(0)]
    for name, depth in maps.items():
        places = visible_points(name, views[name], points, sightings)
        parts.append(_log_ratios(depth, views[name], points, places))
    logs = np.concatenate(parts)
    if not len(logs):
        return 1.0, 0.0
    width = np.log1p(TOLERANCE)
    cells, counts = np.unique(np.round(logs / width), return_counts=True)
    peak = cells[counts.argmax()] * width
    scale = float(np.median(logs[np.abs(logs - peak) <= width]))
    return float(np.exp(scale)), float((np.abs(logs - scale) <= width).mean())


def _log_ratios(
    depth: NDArray[np.float64], view: View, points: FloatArray, places: Places
) -> FloatArray:
    """Logarithms of stored over expected depth, where there is any."""
    rows, pixels = places
    size = np.array([view.camera.width, view.camera.height])
    columns, lines = np.floor(pixels / size * depth.shape[::-1]).astype(np.int64).T
    stored = depth[lines, columns]
    known = stored > 0
    return np.log(stored[known] / view.z_depth(points[rows[known]]))


def _exchanged(reading: Reading, maps: DepthMaps, sightings: Sightings | None) -> str | None:
    views, points = reading.views, reading.points
    places = {name: visible_points(name, views[name], points, sightings) for name in maps}
    names = [name for name in maps if len(places[name][0]) >= FEWEST]

    def error(name: str, other: str) -> float:
        logs = _log_ratios(maps[name], views[other], points, places[other])
        return float(np.median(np.abs(logs))) if len(logs) else np.inf

    errors = np.array([[error(name, other) for other in names] for name in names])
    return find_exchanged(names, errors, _MARGIN)


def _explain(views: Views, maps: DepthMaps, points: FloatArray, share: float) -> str:
    """The mistake in words, found by undoing it."""
    wanted = max(2 * share, MIN_SHARE)
    for text, repair in POSE_MISTAKES.items():
        repaired = {name: replace(v, camera_to_world=repair(v)) for name, v in views.items()}
        if _scale(repaired, maps, points, None)[1] > wanted:
            return text
    for text, transform in (
        ("nerfstudio's world in place of the scan's", invert_pose(APPLIED_TRANSFORM)),
        ("the scan's world in place of nerfstudio's", APPLIED_TRANSFORM),
    ):
        if _scale(views, maps, transform_points(transform, points), None)[1] > wanted:
            return f"seed points are in other coordinates than cameras and depth: {text}"
    return (
        f"only {100 * share:.0f} % of the seed points are as deep as the depth maps say: points in other "
        "coordinates, or depth of other pictures"
    )
