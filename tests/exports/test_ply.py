from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from mem3r_plugin.errors import ScanError
from mem3r_plugin.exports import PointCloudConfig, confident_points, export_ply
from tests.room_scan import distance_to_walls, make_room_scan, room_colours


def test_another_reader_finds_the_room(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    count = export_ply(scan, tmp_path / "cloud.ply")
    model = pycolmap.Reconstruction()
    model.import_PLY(str(tmp_path / "cloud.ply"))
    points = list(model.points3D.values())
    assert len(points) == count > 1000
    positions = np.array([point.xyz for point in points])
    colours = np.array([point.color for point in points]).astype(int)
    assert distance_to_walls(positions).max() < 2e-3
    assert np.abs(colours - room_colours(positions)).mean() < 3


def test_bytes_are_header_and_records(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    config = PointCloudConfig(max_points=50)
    count = export_ply(scan, tmp_path / "cloud.ply", config)
    header, body = (tmp_path / "cloud.ply").read_bytes().split(b"end_header\n")
    assert header.splitlines() == [
        b"ply",
        b"format binary_little_endian 1.0",
        b"comment metres per unit: unknown",
        f"element vertex {count}".encode(),
        *(f"property float {axis}".encode() for axis in "xyz"),
        *(f"property uchar {colour}".encode() for colour in ("red", "green", "blue")),
    ]
    assert len(body) == 15 * count
    first = np.frombuffer(body[:12], "<f4")
    np.testing.assert_allclose(first, confident_points(scan, config).positions[0], atol=1e-6)


def test_no_depth_no_cloud(tmp_path: Path) -> None:
    scan = make_room_scan(
        tmp_path,
        edit=lambda estimate: replace(
            estimate,
            depth=np.zeros_like(estimate.depth),
            confidence=np.ones_like(estimate.confidence),
        ),
    )
    with pytest.raises(ScanError, match="no depth in any of its 6 frames"):
        export_ply(scan, tmp_path / "cloud.ply")
    assert not (tmp_path / "cloud.ply").exists()
