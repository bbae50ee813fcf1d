"""Point clouds as binary PLY."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ScanError
from mem3r_plugin.exports.files import write_file
from mem3r_plugin.exports.point_cloud import PointCloudConfig, colour_points, confident_points
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)


def export_ply(
    scan: Scan,
    file: Path,
    config: PointCloudConfig | None = None,
    progress: ProgressCallback = no_progress,
) -> int:
    """Write the confident cloud of a scan, in world coordinates and with the colours of its pictures.

    Returns:
        The number of points.

    Raises:
        ScanError: no frame of the scan has depth.
        OutputError: the file cannot be written.
    """
    cloud = confident_points(scan, config, progress)
    if len(cloud) == 0:
        raise ScanError(f"{scan.path} has no depth in any of its {len(scan)} frames, so no cloud")
    write_ply(file, cloud.positions, colour_points(scan, cloud), describe_scale(scan))
    return len(cloud)


def write_ply(
    file: Path,
    positions: NDArray[np.float64],
    colours: NDArray[np.uint8],
    comment: str | None = None,
) -> None:
    """Write points (N, 3) with RGB colours (N, 3) as little-endian PLY with float coordinates.

    Raises:
        OutputError: the file cannot be written.
    """
    vertices = np.empty(len(positions), _VERTEX)
    vertices["x"], vertices["y"], vertices["z"] = positions.T
    vertices["red"], vertices["green"], vertices["blue"] = colours.T
    properties = [
        f"property {'float' if kind == np.float32 else 'uchar'} {name}"
        for name, (kind, *_) in (_VERTEX.fields or {}).items()
    ]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *([] if comment is None else [f"comment {comment}"]),
        f"element vertex {len(vertices)}",
        *properties,
        "end_header\n",
    ]
    write_file(file, "\n".join(header).encode() + vertices.tobytes())
