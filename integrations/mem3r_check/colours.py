"""Colours: do pictures show the points in theirs?"""

from __future__ import annotations

import numpy as np
from PIL import Image

from mem3r_check.reading import Reading, Sightings
from mem3r_check.verdict import NO_EVIDENCE, Verdict
from mem3r_check.visibility import FEWEST, Places, find_exchanged, spread, visible_points

_MARGIN = 6.0
"""Grey levels by which a picture has to fit another pose better to count as exchanged."""
_PICTURES = 200
"""Pictures looked at."""


def check_colours(reading: Reading, sightings: Sightings | None) -> Verdict:
    """Pictures show the points in their colours, and no picture fits another's pose better."""
    names = spread(list(reading.views), _PICTURES) if len(reading.points) else []
    places = {
        name: visible_points(name, reading.views[name], reading.points, sightings) for name in names
    }
    names = [name for name in names if len(places[name][0]) >= FEWEST]
    if not names:
        return NO_EVIDENCE
    errors = np.array(
        [_errors(reading, name, [places[other] for other in names]) for name in names]
    )
    exchanged = find_exchanged(names, errors, _MARGIN)
    return Verdict(
        f"±{np.median(np.diag(errors)):.1f}",
        exchanged and f"pictures are shuffled: {exchanged}",
    )


def _errors(reading: Reading, name: str, poses: list[Places]) -> list[float]:
    """Median difference in grey levels of a picture from the colours that each pose predicts."""
    with Image.open(reading.views[name].picture) as stored:
        picture = np.asarray(stored.convert("RGB")).astype(np.int16)
    height, width = picture.shape[:2]
    errors = []
    for rows, pixels in poses:
        columns, lines = np.floor(pixels).astype(np.int64).T
        shown = picture[lines.clip(0, height - 1), columns.clip(0, width - 1)]
        difference = np.abs(shown - reading.colours[rows].astype(np.int16))
        errors.append(float(np.median(difference.mean(axis=1))))
    return errors
