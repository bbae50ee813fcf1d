from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mem3r_plugin.errors import OutputError
from mem3r_plugin.pictures import (
    depth_contact_sheet,
    refined_depth_sheet,
    refined_trajectory_plot,
    trajectory_plot,
)
from mem3r_plugin.scan import Scan
from tests.room_scan import make_room_scan, room_pose


@pytest.fixture
def room(tmp_path: Path) -> Scan:
    return make_room_scan(tmp_path / "room")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


BLUE = np.array([31, 119, 180])
"""matplotlib's `tab:blue`, the estimate's colour."""
GREY = np.array([140, 140, 140])
"""The truth's colour, 0.55."""


def share(picture: np.ndarray, colour: np.ndarray) -> float:
    return float((np.abs(picture - colour).max(axis=-1) < 4).mean())


def test_the_truth_is_drawn_beside_the_estimate(room: Scan, tmp_path: Path) -> None:
    truth = np.stack([room_pose(index) for index in range(6)])
    truth[:, 1, 3] += [0, 0.1, 0, 0.1, 0, 0.1]
    trajectory_plot(room, tmp_path / "alone.png")
    trajectory_plot(room, tmp_path / "both.png", ground_truth=truth)
    alone, both = pixels(tmp_path / "alone.png"), pixels(tmp_path / "both.png")
    assert share(alone, BLUE) > 5e-4
    assert share(both, BLUE) > 5e-4
    assert share(both, GREY) > share(alone, GREY) + 5e-4  # letters have some grey, too


def test_one_camera_has_a_place_too(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path / "room", frames=1)
    trajectory_plot(scan, tmp_path / "path.png", ground_truth=room_pose(3)[None])
    assert share(pixels(tmp_path / "path.png"), BLUE) > 1e-5


def test_truth_must_be_of_the_same_frames(room: Scan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 true poses for the 6 frames"):
        trajectory_plot(room, tmp_path / "path.png", ground_truth=np.eye(4)[None])


@pytest.mark.parametrize("size", [(200, 150), (150, 200)])
def test_contact_sheet_shows_the_pictures(size: tuple[int, int], tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path / "room", size=size)
    depth_contact_sheet(scan, tmp_path / "three.png", frames=3)
    depth_contact_sheet(scan, tmp_path / "six.png")
    three, six = pixels(tmp_path / "three.png"), pixels(tmp_path / "six.png")
    assert 1.5 < six.shape[0] / three.shape[0] < 2
    colour = scan.image(0)[size[1] // 2, size[0] // 2]
    assert share(three, colour) > 1e-4


def test_pixels_without_depth_are_grey(tmp_path: Path) -> None:
    def empty(estimate):
        return replace(
            estimate,
            depth=np.zeros_like(estimate.depth),
            confidence=np.ones_like(estimate.confidence),
        )

    scan = make_room_scan(tmp_path / "room", edit=empty)
    depth_contact_sheet(scan, tmp_path / "sheet.png")
    assert share(pixels(tmp_path / "sheet.png"), np.array([153, 153, 153])) > 0.4


def test_both_paths_of_a_refinement_are_drawn(room: Scan, tmp_path: Path) -> None:
    before = Scan.open(room.path)
    shaken = [frame.camera_to_world.copy() for frame in room.frames]
    for index, pose in enumerate(shaken):
        pose[:3, 3] += [0, 0.1 * (index % 2), 0]
    before.frames = tuple(
        replace(frame, camera_to_world=pose)
        for frame, pose in zip(room.frames, shaken, strict=True)
    )
    refined_trajectory_plot(before, room, tmp_path / "path.png")
    picture = pixels(tmp_path / "path.png")
    assert share(picture, BLUE) > 5e-4
    assert share(picture, GREY) > 5e-4


def test_depth_before_has_the_colours_of_depth_after_in_another_unit(tmp_path: Path) -> None:
    def double(estimate):
        return replace(estimate, depth=2 * estimate.depth)

    after = make_room_scan(tmp_path / "after")
    before = make_room_scan(tmp_path / "before", edit=double)
    refined_depth_sheet(after, after, tmp_path / "same.png")
    refined_depth_sheet(before, after, tmp_path / "double.png")
    same, doubled = pixels(tmp_path / "same.png"), pixels(tmp_path / "double.png")
    assert same.shape == doubled.shape
    assert np.abs(same - doubled).mean() < 1


def test_unwritable_place(room: Scan, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"path\.png"):
        trajectory_plot(room, tmp_path / "file" / "path.png")


def test_pyplot_stays_out() -> None:
    code = "import sys, mem3r_plugin.pictures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
