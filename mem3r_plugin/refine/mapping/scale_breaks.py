"""Taking a map apart where nothing hands the scale on.

What is far ties pictures together in rotation and direction of travel, wherever they stand; only points seen
under an angle by pictures before a moment, and again by pictures behind it, tell that both are mapped at one
scale. Where a scan has none for a while, such as a drive at low resolution past nothing near, one side of the
map may be many times too large, and every picture is explained all the same.
"""

from __future__ import annotations

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry.pose import vector_angle
from mem3r_plugin.refine.keyframes.picture_names import frame_of

_ANGLE = 1.0  # degrees between two rays to a point, from which its depth is known
_CARRIERS = 3  # such points on both sides at once that hand the scale on
_USUAL = 10  # such points at the usual moment; in maps with fewer, triplets of pictures hand the scale on
_STRUCTURE = 30  # such points of one side alone that give it a scale of its own
_FEWEST = 3  # pictures of a part that is kept


def split_at_scale_breaks(model: pycolmap.Reconstruction) -> list[pycolmap.Reconstruction]:
    """The parts of a map that have a scale each, largest first; most maps are of one part.

    Args:
        model: A map of pictures whose stems are the indices of their frames; it is not changed.
    """
    order = sorted(model.reg_image_ids(), key=lambda image: frame_of(model.images[image].name))
    breaks = scale_breaks(model, order)
    if not breaks:
        return [model]
    parts = np.split(np.array(order), np.array(breaks))
    kept = sorted((part for part in parts if len(part) >= _FEWEST), key=len, reverse=True)
    return [_only(model, set(part.tolist())) for part in kept] or [model]


def scale_breaks(model: pycolmap.Reconstruction, order: list[int]) -> list[int]:
    """Positions in `order` from which on the scale is another than before, ascending.

    Args:
        model: The map.
        order: Its images in the order of their frames.
    """
    count = len(order)
    place = {image: position for position, image in enumerate(order)}
    centres = np.array([model.images[image].projection_center() for image in order])
    # Differences of counts at the cuts in front of each position: of points that hand the scale on, of points
    # seen at all on both sides, and of those whose depth is known before it, or behind it.
    carriers, linking, before, behind = (np.zeros(count + 1, np.int64) for _ in range(4))
    for point in model.points3D.values():
        seen = np.array(sorted({place[e.image_id] for e in point.track.elements}))
        linking[seen[0] + 1] += 1
        linking[seen[-1] + 1] -= 1
        rays = point.xyz - centres[seen]
        known, still_known = (
            np.flatnonzero(np.degrees(vector_angle(rays, rays[end])) >= _ANGLE) for end in (0, -1)
        )
        if not (known.size and still_known.size):
            continue
        before[seen[known[0]] + 1] += 1
        behind[0] += 1
        behind[seen[still_known[-1]] + 1] -= 1
        if known[0] < still_known[-1]:
            carriers[seen[known[0]] + 1] += 1
            carriers[seen[still_known[-1]] + 1] -= 1
    carriers, linking, before, behind = (
        np.cumsum(each)[:count] for each in (carriers, linking, before, behind)
    )
    inside = (before >= _STRUCTURE) & (behind >= _STRUCTURE)
    if not inside.any() or np.median(carriers[inside]) < _USUAL:
        return []
    loose = inside & (carriers < _CARRIERS)
    return [int(run[np.argmin(linking[run])]) for run in _runs(np.flatnonzero(loose))]


def _runs(positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Consecutive numbers together."""
    if not positions.size:
        return []
    return np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)


def _only(model: pycolmap.Reconstruction, kept: set[int]) -> pycolmap.Reconstruction:
    """A copy of a map that has only some of its images."""
    part = pycolmap.Reconstruction(model)
    manager = pycolmap.ObservationManager(part)
    for image in sorted(set(model.reg_image_ids()) - kept):
        manager.deregister_frame(part.images[image].frame_id)
    part.tear_down()  # removes what has no pose, as incremental mapping does
    return part
