"""The nerfstudio project as its JSON, PLY and PNG say, held against the scan and the room it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from PIL import Image

from mem3r_check import check_project
from mem3r_nerfstudio import NerfstudioExportConfig, NerfstudioReport, export_nerfstudio
from mem3r_nerfstudio.axes import from_nerfstudio, to_nerfstudio
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import OutputError, SourceError
from mem3r_plugin.exports import PointCloudConfig
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import HEADER, MetricScale
from tests.geometry.strategies import poses
from tests.room_scan import make_room_scan

CONFIG = NerfstudioExportConfig(PointCloudConfig(max_points=2000))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("nerfstudio"))


@pytest.fixture(scope="module")
def project(room: Scan) -> Path:
    export_nerfstudio(room, room.path / "project", CONFIG)
    return room.path / "project"


def transforms(project: Path) -> dict[str, Any]:
    return json.loads((project / "transforms.json").read_text())


def read_png(file: Path) -> NDArray[Any]:
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))


def edit_header(scan: Scan, **changes: Any) -> Scan:
    file = scan.path / HEADER
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return Scan.open(scan.path)


# -- conventions ---------------------------------------------------------------------------------


@given(poses)
def test_axes_are_those_of_opengl_and_z_is_up(camera_to_world: FloatArray) -> None:
    theirs = to_nerfstudio(camera_to_world)
    right, up, backward = theirs[:3, :3].T
    ours = camera_to_world[:3, :3]

    def in_their_world(vector: FloatArray) -> FloatArray:
        x, y, z = vector
        return np.array([x, z, -y])

    np.testing.assert_allclose(right, in_their_world(ours[:, 0]), atol=1e-12)
    np.testing.assert_allclose(up, in_their_world(-ours[:, 1]), atol=1e-12)
    np.testing.assert_allclose(backward, in_their_world(-ours[:, 2]), atol=1e-12)
    np.testing.assert_allclose(theirs[:3, 3], in_their_world(camera_to_world[:3, 3]), atol=1e-12)
    np.testing.assert_allclose(from_nerfstudio(theirs), camera_to_world, atol=1e-9)


def test_the_first_camera_looks_ahead_with_z_up() -> None:
    _, up, backward = to_nerfstudio(np.eye(4))[:3, :3].T
    np.testing.assert_array_equal(up, [0, 0, 1])
    np.testing.assert_array_equal(backward, [0, -1, 0])


# -- the project ---------------------------------------------------------------------------------


def test_cameras_are_those_of_the_scan(room: Scan, project: Path) -> None:
    record = transforms(project)
    camera = room.camera
    assert [record[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")] == [
        camera.fx,
        camera.fy,
        camera.cx,
        camera.cy,
        camera.width,
        camera.height,
    ]
    for frame, own in zip(record["frames"], room.frames, strict=True):
        assert frame["file_path"] == f"images/{own.name}"
        matrix = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(from_nerfstudio(matrix), own.camera_to_world, atol=1e-12)


def test_a_zoom_is_told_frame_by_frame(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, zoom=1.1)
    export_nerfstudio(scan, tmp_path / "project", CONFIG)
    record = transforms(tmp_path / "project")
    assert "fl_x" not in record
    focals = [frame["fl_x"] for frame in record["frames"]]
    assert focals == [scan.frame_camera(index).fx for index in range(len(scan))]
    assert len(set(focals)) == len(scan)


def test_depth_is_in_thousandths_on_the_grid_of_the_pictures(room: Scan, project: Path) -> None:
    for index, frame in enumerate(transforms(project)["frames"]):
        stored = read_png(project / frame["depth_file_path"])
        assert stored.dtype == np.uint16
        np.testing.assert_allclose(stored * 1e-3, room.original_depth(index), atol=1e-6)
        confidence = read_png(project / frame["confidence_file_path"])
        assert confidence.shape == stored.shape
        assert ((confidence > 0) == (stored > 0)).all()


@pytest.mark.parametrize("size", [0.01, 20.0])
def test_depth_that_thousandths_do_not_hold_is_stored_as_floats(
    size: float, room: Scan, tmp_path: Path
) -> None:
    scan = scaled(room, size, tmp_path)
    assert scan.depth_unit != 1e-3
    export_nerfstudio(scan, tmp_path / "project", CONFIG)
    for index, frame in enumerate(transforms(tmp_path / "project")["frames"]):
        stored = np.load(tmp_path / "project" / frame["depth_file_path"])
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored * 1e-3, scan.original_depth(index), rtol=1e-6)
    assert check_project(tmp_path / "project").problems == ()


def scaled(room: Scan, size: float, folder: Path) -> Scan:
    """The scan of a room so many times as large."""
    return make_room_scan(
        folder,
        edit=lambda e: replace(
            e,
            depth=(e.depth * size).astype(np.float32),
            camera_to_world=np.block(
                [
                    [e.camera_to_world[:3, :3], size * e.camera_to_world[:3, 3:]],
                    [np.zeros((1, 3)), np.ones((1, 1))],
                ]
            ),
        ),
    )


def test_depth_maps_can_be_left_out(room: Scan, tmp_path: Path) -> None:
    config = NerfstudioExportConfig(CONFIG.points, depth=False)
    report = export_nerfstudio(room, tmp_path / "project", config)
    assert report.depth_unit is None
    assert not any(
        "depth_file_path" in frame for frame in transforms(tmp_path / "project")["frames"]
    )
    assert {entry.name for entry in (tmp_path / "project").iterdir()} == {
        "images",
        "colmap",
        "transforms.json",
        "sparse_pc.ply",
        "report.json",
    }


def test_masks_of_the_scan_come_along(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    masks = tmp_path / "masks"
    masks.mkdir()
    half = np.full((150, 200), 255, np.uint8)
    half[:, :90] = 0
    Image.fromarray(half).save(masks / "001.png")
    settings = {"settings": {"masks": str(masks)}}
    report = export_nerfstudio(edit_header(scan, **settings), tmp_path / "project", CONFIG)
    assert report.masks
    for index, frame in enumerate(transforms(tmp_path / "project")["frames"]):
        with Image.open(tmp_path / "project" / frame["mask_path"]) as mask:
            assert mask.mode == "L"
            pixels = np.asarray(mask)
        np.testing.assert_array_equal(pixels, half if index == 1 else np.full_like(half, 255))


def test_lost_masks_stop_the_export(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    scan = edit_header(scan, settings={"masks": str(tmp_path / "gone")})
    with pytest.raises(SourceError, match="gone"):
        export_nerfstudio(scan, tmp_path / "project", CONFIG)
    assert not (tmp_path / "project").exists()


def test_pictures_that_differ_in_suffix_only_keep_their_own_maps(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, frames=2, kind="arrays")
    lines = (scan.path / "frames.jsonl").read_text().splitlines()
    renamed = [
        line.replace(f'"00{i}.png"', f'"a.{s}"', 1)
        for i, (line, s) in enumerate(zip(lines, ("png", "jpg"), strict=True))
    ]
    (scan.path / "frames.jsonl").write_text("\n".join(renamed) + "\n")
    export_nerfstudio(Scan.open(scan.path), tmp_path / "project", CONFIG)
    files = [frame["depth_file_path"] for frame in transforms(tmp_path / "project")["frames"]]
    assert len(set(files)) == 2


def test_the_metric_scale_is_recorded(room: Scan, tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    scale = MetricScale(2.5, 0.01, "a ruler")
    scan = edit_header(scan, scale=vars(scale))
    report = export_nerfstudio(scan, tmp_path / "project", CONFIG)
    stored = json.loads((tmp_path / "project/report.json").read_text())
    assert stored["metres_per_unit"] == report.metres_per_unit == 2.5
    assert "a ruler" in stored["scale"]
    assert set(stored) == set(NerfstudioReport.__dataclass_fields__)


# -- trouble -------------------------------------------------------------------------------------


def test_an_occupied_folder_is_refused(room: Scan, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(OutputError, match="not empty"):
        export_nerfstudio(room, tmp_path, CONFIG)
    with pytest.raises(OutputError, match="not an earlier export"):
        export_nerfstudio(room, tmp_path, NerfstudioExportConfig(overwrite=True))
    assert [file.name for file in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_earlier_export_is_replaced(room: Scan, tmp_path: Path) -> None:
    export_nerfstudio(room, tmp_path / "project", CONFIG)
    (tmp_path / "project/images/000.png").unlink()
    export_nerfstudio(
        room, tmp_path / "project", NerfstudioExportConfig(CONFIG.points, overwrite=True)
    )
    assert check_project(tmp_path / "project").passed


def test_two_exports_are_the_same_bytes(room: Scan, project: Path, tmp_path: Path) -> None:
    export_nerfstudio(room, tmp_path / "again", CONFIG)
    files = sorted(file.relative_to(project) for file in project.rglob("*") if file.is_file())
    assert files == sorted(
        file.relative_to(tmp_path / "again")
        for file in (tmp_path / "again").rglob("*")
        if file.is_file()
    )
    for file in files:
        assert (project / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_the_command_says_what_it_wrote(
    room: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "project"
    assert main(["export", "nerfstudio", str(room.path), str(output), "--max-points", "500"]) == 0
    points = json.loads((output / "report.json").read_text())["points"]
    assert capsys.readouterr().out == f"{output}: 6 images, {points} seed points\n"
    assert 100 < points <= 500
