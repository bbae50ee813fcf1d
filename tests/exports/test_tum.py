from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mem3r_plugin.errors import OutputError, SourceError
from mem3r_plugin.exports import export_tum
from mem3r_plugin.exports.tum import read_tum
from tests.room_scan import make_room_scan


def test_trajectory_survives(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    export_tum(scan, tmp_path / "new folder" / "trajectory.txt")
    timestamps, poses = read_tum(tmp_path / "new folder" / "trajectory.txt")
    np.testing.assert_allclose(timestamps, [frame.timestamp for frame in scan.frames], atol=1e-6)
    expected = np.stack([frame.camera_to_world for frame in scan.frames])
    np.testing.assert_allclose(poses, expected, atol=1e-9)


def test_columns_are_those_of_the_benchmark(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, frames=3)
    export_tum(scan, tmp_path / "trajectory.txt")
    *_, last = (tmp_path / "trajectory.txt").read_text().splitlines()
    half = -0.05  # half of the yaw of frame 2, about the y axis
    expected = [0.2, 0.16, -0.04, 0.1, 0, np.sin(half), 0, np.cos(half)]
    np.testing.assert_allclose([float(word) for word in last.split()], expected, atol=1e-9)


@pytest.mark.parametrize(
    "content", ["", "1 2 3\n", "a b c d e f g h\n", "0 0 0 0 0 0 0 0\n"], ids=repr
)
def test_damaged_trajectory_is_one_clear_error(content: str, tmp_path: Path) -> None:
    file = tmp_path / "poses.txt"
    file.write_text(content)
    with pytest.raises(SourceError, match=r"poses\.txt is not a TUM trajectory"):
        read_tum(file)


def test_missing_trajectory(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"poses\.txt"):
        read_tum(tmp_path / "poses.txt")


def test_unwritable_place(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path / "room", frames=1)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"trajectory\.txt"):
        export_tum(scan, tmp_path / "file" / "trajectory.txt")
