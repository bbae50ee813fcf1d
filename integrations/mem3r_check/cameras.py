"""Pictures, cameras and seed points: are they there, and do they fit the tracks and each other?"""

from __future__ import annotations

import numpy as np
from PIL import Image

from mem3r_check.mistakes import describe, explain
from mem3r_check.reading import Reading, Sightings, residuals
from mem3r_check.verdict import NO_EVIDENCE, Verdict
from mem3r_check.visibility import PER_VIEW
from mem3r_plugin.geometry.alignment import umeyama

MAX_BIAS = 0.25
"""Pixels by which sightings may lie to one side on average; half a lost pixel is more."""
MAX_ERROR = 2.0
"""Median distance in pixels of sightings from projections."""
MAX_ERROR_PER_PICTURE = 8.0
"""The same in a single picture."""
MAX_DIFFERENCE = 0.05
"""Pixels by which two programs may project a point differently."""


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
    by_picture = [distance[sightings.of(name)] for name in sightings.names]
    worst = max(float(np.median(own)) for own in by_picture if own.size)
    if median > MAX_ERROR or bias > MAX_BIAS or worst > MAX_ERROR_PER_PICTURE:
        return Verdict(f"{max(median, bias):.4g} px", explain(reading.views, sightings))
    return Verdict(f"{median:.2f} px")


def check_agreement(reading: Reading, reference: Reading) -> Verdict:
    """A program sees the same pictures and cameras as another."""
    if reading.views.keys() != reference.views.keys():
        odd = sorted(reading.views.keys() ^ reference.views.keys())
        return Verdict("names", f"{odd[0]} is not read by both it and {reference.reader}")
    points = reference.points[:PER_VIEW]
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
