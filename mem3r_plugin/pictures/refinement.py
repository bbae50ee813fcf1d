"""A scan before and after refinement: its path, and its depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.pictures.contact_sheet import draw_sheet, spread_frames, without_none
from mem3r_plugin.pictures.trajectory import draw_paths
from mem3r_plugin.scan import Scan


def refined_trajectory_plot(before: Scan, after: Scan, path: Path) -> None:
    """Draw the path of a refined scan, and beside it that of the scan, aligned by a similarity.

    Axes are those of the first refined camera, lengths in the refined scan's unit.

    Raises:
        OutputError: the picture cannot be written.
    """
    old, new = _centres(before), _centres(after)
    aligned = umeyama(old, new).points(old)
    paths = [("before, aligned", aligned, "0.55"), ("refined", new, "tab:blue")]
    draw_paths(paths, f"{len(after)} frames before and after refinement", path)


def refined_depth_sheet(before: Scan, after: Scan, path: Path, frames: int = 6) -> None:
    """Draw picture, depth before, depth after and confidence after of frames spread over a scan.

    Depth before is multiplied by one number for the whole scan, so that both have one colour scale.

    Raises:
        OutputError: the picture cannot be written.
    """
    indices = spread_frames(len(after), frames)
    old = [_depth_as_in(after, before, index) for index in indices]
    new = [without_none(after.depth(index), after.depth(index)) for index in indices]
    sure = [without_none(after.confidence(index), after.depth(index)) for index in indices]
    ratio = np.concatenate([(a / b).ravel() for a, b in zip(new, old, strict=True)])
    known = ratio[np.isfinite(ratio)]
    scale = np.float32(np.median(known)) if known.size else np.float32(1)
    columns = [
        ("depth before", "depth", [scale * values for values in old]),
        ("depth refined", "depth", new),
        ("confidence", "confidence", sure),
    ]
    draw_sheet(after, indices, columns, path)


def _centres(scan: Scan) -> FloatArray:
    return np.stack([frame.camera_to_world[:3, 3] for frame in scan.frames])


def _depth_as_in(after: Scan, before: Scan, index: int) -> NDArray[np.float32]:
    """Depth of one scan on the grid of the other's depth maps, which may be finer; NaN for none."""
    depth: NDArray[np.float32] = after.transform.sample(before.original_depth(index))
    return without_none(depth, depth)
