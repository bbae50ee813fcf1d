"""Which of the usual mistakes explains that points are not seen where they should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mem3r_check.reading import Sightings, View, residuals
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.alignment import Similarity, umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, rotation_angle

Views = dict[str, View]

_ENOUGH = 1.0
"""A repair explains the errors if it brings their median below so many pixels."""
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def explain(views: Views, sightings: Sightings) -> str:
    """The mistake in words; the errors alone where no single mistake explains them."""
    sightings = sightings.sample(20_000)
    for text, repair in POSE_MISTAKES.items():
        repaired = {name: replace(v, camera_to_world=repair(v)) for name, v in views.items()}
        if median_error(repaired, sightings) < _ENOUGH:
            return text
    for look in (_camera_mistake, _shuffled, _some_pictures, _other_coordinates):
        found = look(views, sightings)
        if found is not None:
            return found
    error = median_error(views, sightings)
    return (
        f"points are seen {error:.3g} px beside their projections, and no usual mistake explains it"
    )


def median_error(views: Views, sightings: Sightings) -> float:
    """Median distance in pixels between where points are seen and where they project to."""
    return float(np.median(np.linalg.norm(residuals(views, sightings), axis=1)))


POSE_MISTAKES: dict[str, Callable[[View], FloatArray]] = {
    "camera axes are flipped: y and z point the other way (OpenGL's in place of OpenCV's, or back)": (
        lambda view: view.camera_to_world @ _FLIP
    ),
    "poses are inverted: world-to-camera in place of camera-to-world, or back": (
        lambda view: invert_pose(view.camera_to_world)
    ),
    "poses are inverted and camera axes flipped": (
        lambda view: invert_pose(view.camera_to_world) @ _FLIP
    ),
}
"""What is wrong in words, and the pose that would then be right."""


@dataclass(frozen=True)
class _Affine:
    """Seen pixels as ``scale * projected + offset``."""

    scale: float
    offset: FloatArray


def _camera_mistake(views: Views, sightings: Sightings) -> str | None:
    """A wrong focal length or principal point, the same in all pictures."""
    error = residuals(views, sightings)
    known = np.isfinite(error).all(axis=1)
    if not known.any():
        return None
    seen = sightings.pixels[known]
    fit = _fit(seen - error[known], seen)
    repaired = {name: replace(view, camera=_refit(view, fit)) for name, view in views.items()}
    if median_error(repaired, sightings) >= min(_ENOUGH, 0.5 * median_error(views, sightings)):
        return None
    if abs(fit.scale - 1) < 2e-3:
        x, y = fit.offset
        halves = np.round(2 * fit.offset) / 2
        if np.abs(fit.offset - halves).max() < 0.1 and np.abs(halves).max() == 0.5:
            return f"half a pixel is lost: the principal point is off by ({x:+.2f}, {y:+.2f}) px"
        return f"the principal point is off by ({x:+.2f}, {y:+.2f}) px"
    whole = np.abs(fit.offset).max() < 0.5
    what = "the camera is" if whole else "focal lengths are"
    return f"{what} for pictures of another size: {fit.scale:.4g} times as large would fit"


def _fit(projected: FloatArray, seen: FloatArray) -> _Affine:
    """The affine map that most sightings agree on: least squares, outliers dropped as they show."""
    keep = np.ones(len(seen), bool)
    fit = _Affine(1.0, np.zeros(2))
    for _ in range(5):
        mean_in, mean_out = projected[keep].mean(axis=0), seen[keep].mean(axis=0)
        inwards = projected[keep] - mean_in
        scale = (inwards * (seen[keep] - mean_out)).sum() / max((inwards**2).sum(), 1e-12)
        fit = _Affine(float(scale), mean_out - scale * mean_in)
        error = np.linalg.norm(seen - scale * projected - fit.offset, axis=1)
        keep = error <= 3 * np.median(error) + 1e-9
    return fit


def _refit(view: View, fit: _Affine) -> Intrinsics:
    camera = view.camera
    return replace(
        camera,
        fx=camera.fx * fit.scale,
        fy=camera.fy * fit.scale,
        cx=camera.cx * fit.scale + float(fit.offset[0]),
        cy=camera.cy * fit.scale + float(fit.offset[1]),
    )


def _shuffled(views: Views, sightings: Sightings) -> str | None:
    """Pictures whose sightings fit the pose of another picture."""
    swaps: list[tuple[str, str]] = []
    for name in views:
        chosen = sightings.of(name)[:200]
        if not chosen.size:
            continue
        own = sightings.only(chosen)
        if median_error(views, own) < _ENOUGH:
            continue
        if len(swaps) == 20:
            break  # enough to tell
        errors = {other: median_error({name: view}, own) for other, view in views.items()}
        best = min(errors, key=lambda other: errors[other])
        if errors[best] >= _ENOUGH:
            return None
        swaps.append((name, best))
    if not swaps:
        return None
    name, other = swaps[0]
    return f"names are shuffled: {name} and others ({len(swaps)} found) fit the pose of {other}"


def _some_pictures(views: Views, sightings: Sightings) -> str | None:
    """A few pictures with wrong poses among others that are right."""
    if median_error(views, sightings) >= _ENOUGH:
        return None
    errors = {
        name: median_error(views, sightings.only(sightings.of(name)))
        for name in sightings.names
        if sightings.of(name).size
    }
    worst = max(errors, key=lambda name: errors[name])
    wrong = [name for name, error in errors.items() if error >= _ENOUGH]
    if not wrong:
        return None
    return (
        f"{len(wrong)} of {len(errors)} pictures have wrong poses: points are seen {errors[worst]:.3g} px "
        f"beside their projections in {worst}"
    )


def _other_coordinates(views: Views, sightings: Sightings) -> str | None:
    """Cameras that agree among themselves, but not with the points."""
    triangulated, known = _triangulate(views, sightings)
    moved = replace(sightings, points=triangulated)
    if known.sum() < 4 or median_error(views, moved) >= _ENOUGH:
        return None
    similarity = umeyama(sightings.points[known], triangulated[known])
    return f"points and cameras are in different coordinates: {describe(similarity)}"


def describe(similarity: Similarity) -> str:
    """A similarity in words."""
    degrees = np.degrees(rotation_angle(similarity.rotation))
    distance = np.linalg.norm(similarity.translation)
    return f"scale {similarity.scale:.4g}, turned by {degrees:.3g}°, moved by {distance:.3g}"


def _triangulate(views: Views, sightings: Sightings) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Where the rays of each point meet, (N, 3), and which points two rays or more fix, (N,)."""
    count = len(sightings.points)
    normal, target = np.zeros((count, 3, 3)), np.zeros((count, 3))
    rays = np.zeros(count, np.int64)
    for name, view in views.items():
        chosen = sightings.of(name)
        rows = sightings.rows[chosen]
        direction = view.camera.unproject(sightings.pixels[chosen], np.ones(len(chosen)))
        direction = direction @ view.camera_to_world[:3, :3].T
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        across = np.eye(3) - direction[:, :, None] * direction[:, None, :]
        np.add.at(normal, rows, across)
        np.add.at(target, rows, across @ view.camera_to_world[:3, 3])
        np.add.at(rays, rows, 1)
    known = (rays >= 2) & (np.linalg.det(normal) > 1e-9)
    points = np.full((count, 3), np.nan)
    points[known] = np.linalg.solve(normal[known], target[known][..., None])[..., 0]
    return points, known
