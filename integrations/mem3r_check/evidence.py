"""What a project itself says about whether a program reads it rightly.

Every check returns a `Verdict`. The evidence: pictures have the size of their cameras; points project
to where tracks saw them, lie as deep as depth maps say and have the colours of the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mem3r_check.mistakes import POSE_MISTAKES, describe, explain
from mem3r_check.reading import Reading, Sightings, View, residuals
from mem3r_nerfstudio.axes import APPLIED_TRANSFORM
from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points

MAX_BIAS = 0.25
"""Pixels by which sightings may lie to one side on average; half a lost pixel is more."""
MAX_ERROR = 2.0
"""Median distance in pixels of sightings from projections."""
MAX_ERROR_PER_PICTURE = 8.0
"""The same in a single picture."""
MAX_DIFFERENCE = 0.05
"""Pixels by which two programs may project a point differently."""
DEPTH_TOLERANCE = 0.1
"""Relative error of depth; also of its scale."""
MIN_DEPTH_SHARE = 0.3
"""Share of the points that have to be as deep as the depth maps say."""
SHUFFLED_FACTOR, COLOUR_MARGIN, DEPTH_MARGIN = 2.0, 6.0, 0.05
"""A picture or depth map is another pose's where its error at its own is more than so many times that at
the other, and a margin more: grey levels, or a share of the depth."""

_PER_VIEW = 400
"""Points looked at in one picture."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check."""

    value: str
    """What was measured, for the table."""
    problem: str | None = None
    """What is wrong; None: nothing."""


NO_EVIDENCE = Verdict("-")


def check_pictures(reading: Reading) -> Verdict:
    """Every picture is there and has the size of its camera."""
    for name, view in reading.views.items():
        try:
            with Image.open(view.picture) as picture:
                size = picture.size
        except FileNotFoundError:
            return Verdict("missing", f"picture {name} is missing: {view.picture} does not exist")
        except OSError as error:
            return Verdict("damaged", f"picture {name} is damaged: {error}")
        if size != (view.camera.width, view.camera.height):
            return Verdict(
                "size",
                f"picture {name} is {size[0]}x{size[1]}, its camera is for "
                f"{view.camera.width}x{view.camera.height}",
            )
    return Verdict(str(len(reading.views)))


def check_sightings(reading: Reading, sightings: Sightings | None) -> Verdict:
    """Points project to where the tracks of the COLMAP model saw them."""
    if sightings is None or not len(sightings):
        return NO_EVIDENCE
    absent = sorted(set(sightings.names) - set(reading.views))
    if absent:
        return Verdict("names", f"{len(absent)} pictures of the model are not there: {absent[0]}")
    error = residuals(reading.views, sightings)
    distance = np.linalg.norm(error, axis=1)
    median = float(np.median(distance))
    finite = error[np.isfinite(distance) & (distance <= 3 * median + 1e-9)]
    bias = float(np.abs(finite.mean(axis=0)).max()) if len(finite) else np.inf
    worst = max(
        float(np.median(distance[sightings.of(name)])) for name in np.unique(sightings.names)
    )
    if median > MAX_ERROR or bias > MAX_BIAS or worst > MAX_ERROR_PER_PICTURE:
        return Verdict(f"{max(median, bias):.4g} px", explain(reading.views, sightings))
    return Verdict(f"{median:.2f} px")


def check_agreement(reading: Reading, reference: Reading) -> Verdict:
    """A program sees the same pictures and cameras as another."""
    if reading.views.keys() != reference.views.keys():
        odd = sorted(reading.views.keys() ^ reference.views.keys())
        return Verdict("names", f"{odd[0]} is not read by both it and {reference.reader}")
    points = reference.points[:_PER_VIEW]
    worst = 0.0
    for name, view in reading.views.items():
        other = reference.views[name]
        if view.picture.resolve() != other.picture.resolve():
            return Verdict("files", f"{name} is another file for {reference.reader}")
        expected = other.project(points)
        visible = other.camera.contains(expected)
        difference = np.abs(view.project(points)[visible] - expected[visible])
        difference[np.isnan(difference)] = np.inf
        worst = max(worst, float(difference.max(initial=0.0)))
    if worst > MAX_DIFFERENCE:
        return Verdict(
            f"{worst:.3g} px", f"cameras differ from {reference.reader}'s by {worst:.3g} px"
        )
    return Verdict(f"{worst:.2f} px")


def check_seeds(reading: Reading, sightings: Sightings | None) -> Verdict:
    """The seed points are those of the COLMAP model."""
    if not len(reading.points):
        return Verdict("none")
    if sightings is None or len(reading.points) != len(sightings.points):
        return Verdict(f"{len(reading.points)}")
    extent = float(np.ptp(sightings.points, axis=0).max())
    distance = np.linalg.norm(reading.points - sightings.points, axis=1)
    if np.median(distance) <= 1e-4 * extent:
        return Verdict(f"{len(reading.points)}")
    similarity = umeyama(sightings.points, reading.points)
    rest = np.linalg.norm(similarity.points(sightings.points) - reading.points, axis=1)
    if np.median(rest) <= 1e-3 * similarity.scale * extent:
        return Verdict(
            "moved",
            f"seed points are in other coordinates than the COLMAP model: {describe(similarity)}",
        )
    return Verdict("others", "seed points are not those of the COLMAP model")


def check_depth(reading: Reading, sightings: Sightings | None) -> Verdict:
    """Points lie as deep as the depth maps say."""
    views = {name: view for name, view in reading.views.items() if view.depth is not None}
    if not views:
        return NO_EVIDENCE
    lost = [name for name, view in views.items() if view.depth and not view.depth.exists()]
    if lost:
        return Verdict("missing", f"the depth map of {lost[0]} is missing: {views[lost[0]].depth}")
    if not len(reading.points):
        return NO_EVIDENCE
    maps = {}
    for name in _spread(list(views), 40):
        depth = _read_depth(views[name].depth, reading.depth_unit)
        if depth is None:
            return Verdict("damaged", f"the depth map of {name} is damaged: {views[name].depth}")
        maps[name] = depth
    scale, share = _depth_scale(views, maps, reading.points, sightings)
    value = f"{100 * share:.0f} %"
    if share < MIN_DEPTH_SHARE:
        return Verdict(value, _explain_depth(views, maps, reading.points, share))
    if abs(np.log(scale)) > np.log1p(DEPTH_TOLERANCE):
        return Verdict(value, f"depth is {scale:.4g} times what the points say: its unit is wrong")
    names = list(maps)
    places = {name: _visible(name, views[name], reading.points, sightings) for name in names}
    names = [name for name in names if len(places[name][0]) >= 20]
    errors = [
        [_depth_error(maps[name], views[other], reading.points, *places[other]) for other in names]
        for name in names
    ]
    shuffled = _shuffled(names, np.array(errors), DEPTH_MARGIN)
    return Verdict(value, shuffled and f"depth maps are shuffled: {shuffled}")


def check_colours(reading: Reading, sightings: Sightings | None) -> Verdict:
    """Pictures show the points in their colours, and no picture fits another's pose better."""
    if not len(reading.points):
        return NO_EVIDENCE
    names = _spread(list(reading.views), 200)
    places = {
        name: _visible(name, reading.views[name], reading.points, sightings) for name in names
    }
    names = [name for name in names if len(places[name][0]) >= 20]
    errors = np.array([_colour_errors(reading, name, names, places) for name in names])
    if not len(names):
        return NO_EVIDENCE
    value = f"±{np.median(np.diag(errors)):.1f}"
    shuffled = _shuffled(names, errors, COLOUR_MARGIN)
    return Verdict(value, shuffled and f"pictures are shuffled: {shuffled}")


# -- parts ---------------------------------------------------------------------------------------


def _spread(names: list[str], limit: int) -> list[str]:
    chosen = np.linspace(0, len(names) - 1, min(len(names), limit)).round().astype(int)
    return [names[index] for index in np.unique(chosen)]


def _shuffled(names: list[str], errors: FloatArray, margin: float) -> str | None:
    """Who is taken for whom, from errors[i, j] of the file of `names[i]` at the pose of `names[j]`."""
    if not names:
        return None
    wrong = np.flatnonzero(np.diag(errors) > SHUFFLED_FACTOR * errors.min(axis=1) + margin)
    if len(wrong) < 2:
        return None
    first = wrong[0]
    other = names[int(errors[first].argmin())]
    return f"{len(wrong)} show what others should, {names[first]} that of {other}"


def _visible(
    name: str, view: View, points: FloatArray, sightings: Sightings | None
) -> tuple[NDArray[np.int64], FloatArray]:
    """Rows and pixels of some points in a picture: those tracked there, else all that project into it.

    Only tracks of the same points count.
    """
    rows = np.arange(len(points))
    if sightings is not None and len(sightings.points) == len(points):
        rows = sightings.rows[sightings.of(name)]
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 4 * _PER_VIEW)).astype(np.int64)]
    pixels = view.project(points[rows])
    inside = view.camera.contains(pixels)
    return rows[inside][:_PER_VIEW], pixels[inside][:_PER_VIEW]


def _read_depth(file: Path | None, unit: float) -> NDArray[np.float64] | None:
    """A depth map as nerfstudio decodes it; None where it is damaged."""
    try:
        if file is not None and file.suffix == ".npy":
            return np.load(file).astype(np.float64) * unit
    except (ValueError, OSError):
        return None
    stored = cv2.imread(str(file), cv2.IMREAD_ANYDEPTH)
    return None if stored is None else stored.astype(np.float64) * unit


def _depth_scale(
    views: dict[str, View],
    maps: dict[str, NDArray[np.float64]],
    points: FloatArray,
    sightings: Sightings | None,
) -> tuple[float, float]:
    """The scale that most points agree on, depth over z, and the share of the points that do."""
    ratios = [np.empty(0)]
    for name, depth in maps.items():
        rows, pixels = _visible(name, views[name], points, sightings)
        ratios.append(_log_depth_ratios(depth, views[name], points, rows, pixels))
    logs = np.concatenate(ratios)
    if not len(logs):
        return 1.0, 0.0
    width = np.log1p(DEPTH_TOLERANCE)
    cells, counts = np.unique(np.round(logs / width), return_counts=True)
    peak = cells[counts.argmax()] * width
    scale = float(np.median(logs[np.abs(logs - peak) <= width]))
    return float(np.exp(scale)), float((np.abs(logs - scale) <= width).mean())


def _log_depth_ratios(
    depth: NDArray[np.float64],
    view: View,
    points: FloatArray,
    rows: NDArray[np.int64],
    pixels: FloatArray,
) -> FloatArray:
    """Logarithms of stored over expected depth, where there is any."""
    size = np.array([view.camera.width, view.camera.height])
    columns, lines = np.floor(pixels / size * depth.shape[::-1]).astype(np.int64).T
    stored = depth[lines, columns]
    known = stored > 0
    return np.log(stored[known] / view.z_depth(points[rows[known]]))


def _depth_error(
    depth: NDArray[np.float64],
    view: View,
    points: FloatArray,
    rows: NDArray[np.int64],
    pixels: FloatArray,
) -> float:
    """Median relative error of a depth map at the pose of a view; infinite without depth."""
    logs = _log_depth_ratios(depth, view, points, rows, pixels)
    return float(np.median(np.abs(logs))) if len(logs) else np.inf


def _explain_depth(
    views: dict[str, View], maps: dict[str, NDArray[np.float64]], points: FloatArray, share: float
) -> str:
    for text, repair in POSE_MISTAKES.items():
        repaired = {name: replace(v, camera_to_world=repair(v)) for name, v in views.items()}
        if _depth_scale(repaired, maps, points, None)[1] > max(2 * share, MIN_DEPTH_SHARE):
            return text
    for text, transform in (
        ("nerfstudio's world in place of the scan's", invert_pose(APPLIED_TRANSFORM)),
        ("the scan's world in place of nerfstudio's", APPLIED_TRANSFORM),
    ):
        moved = transform_points(transform, points)
        if _depth_scale(views, maps, moved, None)[1] > max(2 * share, MIN_DEPTH_SHARE):
            return f"seed points are in other coordinates than cameras and depth: {text}"
    return (
        f"only {100 * share:.0f} % of the seed points are as deep as the depth maps say: points in other "
        "coordinates, or depth of other pictures"
    )


def _colour_errors(
    reading: Reading,
    name: str,
    names: list[str],
    places: dict[str, tuple[NDArray[np.int64], FloatArray]],
) -> list[float]:
    """How far a picture is from the colours that the pose of every picture in `names` predicts."""
    with Image.open(reading.views[name].picture) as stored:
        picture = np.asarray(stored.convert("RGB")).astype(np.int16)
    height, width = picture.shape[:2]
    errors = []
    for other in names:
        rows, pixels = places[other]
        columns, lines = np.floor(pixels).astype(np.int64).T
        shown = picture[lines.clip(0, height - 1), columns.clip(0, width - 1)]
        expected = reading.colours[rows].astype(np.int16)
        errors.append(float(np.median(np.abs(shown - expected).mean(axis=1))))
    return errors
