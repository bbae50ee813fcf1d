"""Which points pictures show, and whether files have been exchanged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem3r_check.reading import Sightings, View
from mem3r_plugin.geometry.camera import FloatArray

Places = tuple[NDArray[np.int64], FloatArray]
"""Rows (K,) of points and their pixels (K, 2) in one picture."""

PER_VIEW = 400
"""Points looked at in one picture."""
FEWEST = 20
"""Pictures with fewer points say nothing."""

_FACTOR = 2.0
"""So many times worse must a file fit its own pose than another to count as exchanged."""


def spread(names: list[str], limit: int) -> list[str]:
    """At most `limit` of the names, evenly spread."""
    chosen = np.linspace(0, len(names) - 1, min(len(names), limit)).round().astype(int)
    return [names[index] for index in np.unique(chosen)]


def visible_points(
    name: str, view: View, points: FloatArray, sightings: Sightings | None
) -> Places:
    """Some points in a picture: those tracked there, else any that project into it.

    Tracks count where they are tracks of these points.
    """
    rows = np.arange(len(points))
    if sightings is not None and len(sightings.points) == len(points):
        rows = sightings.rows[sightings.of(name)]
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 4 * PER_VIEW)).astype(np.int64)]
    pixels = view.project(points[rows])
    inside = view.camera.contains(pixels)
    return rows[inside][:PER_VIEW], pixels[inside][:PER_VIEW]


def find_exchanged(names: list[str], errors: FloatArray, margin: float) -> str | None:
    """Who is taken for whom; None where every file fits its own pose.

    Args:
        names: Of pictures.
        errors: Of the file of picture i at the pose of picture j, shape (N, N).
        margin: By how much more than `_FACTOR` times another's error a file's own has to be.
    """
    if not names:
        return None
    wrong = np.flatnonzero(np.diag(errors) > _FACTOR * errors.min(axis=1) + margin)
    if len(wrong) < 2:
        return None
    first = wrong[0]
    other = names[int(errors[first].argmin())]
    return f"{len(wrong)} show what others should, {names[first]} that of {other}"
