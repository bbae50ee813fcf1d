"""Right projects pass; each of the usual mistakes is found and called by its name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mem3r_check import check_project
from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_nerfstudio import NerfstudioExportConfig, export_nerfstudio
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import SourceError
from mem3r_plugin.exports import PointCloudConfig
from mem3r_plugin.scan import Scan
from tests.integrations.check import damage
from tests.room_scan import make_room_scan

POINTS = PointCloudConfig(max_points=2000)

SCANS: dict[str, dict[str, Any]] = {
    "images": {},
    "turned by EXIF": {"orientation": 6, "suffix": ".jpg"},
    "video": {"kind": "video"},
    "cropped": {"size": (417, 129)},
    "names with blanks": {"name": "walk {} of 6"},
    "zoom": {"zoom": 1.1},
    "two frames": {"frames": 2},
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("check") / "room", frames=8)


@pytest.fixture(scope="module")
def colmap(room: Scan) -> Path:
    export_colmap(room, room.path / "colmap", ColmapExportConfig(POINTS))
    return room.path / "colmap"


@pytest.fixture(scope="module")
def nerfstudio(room: Scan) -> Path:
    export_nerfstudio(room, room.path / "nerfstudio", NerfstudioExportConfig(POINTS))
    return room.path / "nerfstudio"


# -- right projects ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCANS)
def test_every_export_passes(kind: str, tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, **SCANS[kind])
    export_colmap(scan, tmp_path / "colmap", ColmapExportConfig(POINTS))
    export_nerfstudio(scan, tmp_path / "nerfstudio", NerfstudioExportConfig(POINTS))
    for name in ("colmap", "nerfstudio"):
        report = check_project(tmp_path / name)
        assert report.problems == ()
        assert report.passed


def test_text_models_are_read_too(room: Scan, tmp_path: Path) -> None:
    export_colmap(room, tmp_path / "text", ColmapExportConfig(POINTS, text=True))
    report = check_project(tmp_path / "text")
    assert report.passed
    assert {r.reader for r in report.readers if r.verdicts} >= {
        "pycolmap",
        "gsplat examples",
        "3DGS",
    }


def test_the_report_says_what_was_measured(nerfstudio: Path) -> None:
    readers = {reader.reader: reader for reader in check_project(nerfstudio).readers}
    assert set(readers) == {"pycolmap", "nerfstudio colmap", "transforms.json", "nerfstudio-data"}
    verdicts = readers["transforms.json"].verdicts
    assert verdicts["pictures"].value == "8"
    assert verdicts["tracks"].value == verdicts["cameras"].value == "0.00 px"
    assert verdicts["depth"].value == "100 %"
    assert float(verdicts["colours"].value.removeprefix("±")) < 1


def test_an_off_centre_camera_is_told_of_3dgs(colmap: Path, tmp_path: Path) -> None:
    project = shutil.copytree(colmap, tmp_path / "project")
    damage.lose_half_a_pixel(project)
    readers = {reader.reader: reader for reader in check_project(project).readers}
    assert "0.7 px off" in readers["3DGS"].notes[0]


def test_a_model_without_points_is_none_to_start_from(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, frames=1)
    export_colmap(scan, tmp_path / "colmap")
    readers = {reader.reader: reader for reader in check_project(tmp_path / "colmap").readers}
    assert readers["pycolmap"].problems == ()
    for name in ("gsplat examples", "3DGS"):
        assert "export it with --min-track-length 1" in readers[name].problems[0]


def test_an_empty_folder_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no project"):
        check_project(tmp_path)


# -- damaged projects ----------------------------------------------------------------------------

PICTURES: dict[Callable[[Path], None], str] = {
    damage.lose_a_picture: r"picture 003\.png is missing",
    damage.tear_a_picture: r"picture 002\.png is damaged",
    damage.shrink_pictures: r"picture 000\.png is 100x75, its camera is for 200x150",
    damage.exchange_picture_files: "pictures are shuffled",
}
COLMAP: dict[Callable[[Path], None], str] = {
    damage.flip_axes: "camera axes are flipped",
    damage.invert_poses: "poses are inverted: world-to-camera",
    damage.lose_half_a_pixel: r"half a pixel is lost: .*\(\+0.50, \+0.50\)",
    damage.focal_of_network_size: r"focal lengths are for pictures of another size: 2\.083",
    damage.bend_the_camera: "undistorted",
    damage.shuffle_names: "pictures are shuffled",
    damage.move_points: "points and cameras are in different coordinates: scale 0.5, turned by 90°",
    damage.lose_a_number: "a point is not finite",
    damage.displace_one_camera: r"1 of 8 pictures have wrong poses: .* in 003\.png",
    damage.truncate("points3D.bin"): r"points3D\.bin is cut off",
    damage.truncate("images.bin"): r"images\.bin is cut off",
    damage.truncate("cameras.bin"): r"cameras\.bin is cut off",
}
NERFSTUDIO: dict[Callable[[Path], None], str] = {
    damage.ns_flip_axes: "camera axes are flipped",
    damage.ns_invert_poses: "poses are inverted: world-to-camera",
    damage.ns_scale_poses: r"points and cameras are in different coordinates: scale 3",
    damage.ns_forget_the_world: "points and cameras are in different coordinates: scale 1, turned by 90°",
    damage.ns_lose_half_a_pixel: r"half a pixel is lost: .*\(\+0.50, \+0.50\)",
    damage.ns_focal_of_network_size: r"focal lengths are for pictures of another size: 2\.083",
    damage.ns_camera_of_network_size: "its camera is for 96x72",
    damage.ns_shuffle_names: r"names are shuffled: 000\.png and others .* the pose of 007\.png",
    damage.ns_truncate: r"transforms\.json or a file it names is damaged",
    damage.ns_truncate_seeds: r"sparse_pc\.ply holds \d+ of \d+ points",
    damage.ns_seeds_in_the_world_of_the_scan: "seed points are in other coordinates .* turned by 90°",
    damage.ns_depth_in_another_unit: "depth is 5 times what the points say",
    damage.ns_shuffle_depth: "depth maps are shuffled",
    damage.ns_lose_a_depth_map: r"the depth map of 00\d\.png is missing",
    damage.ns_lose_a_number: r"the camera of 002\.png is not finite",
    damage.ns_lose_all_frames: "there is no picture in it",
    damage.ns_mask_some: r"7 frames have no mask_path",
}


def reasons(project: Path, reader: str) -> str:
    report = check_project(project)
    assert not report.passed
    return "\n".join(next(r for r in report.readers if r.reader == reader).problems)


def name(spoil: Callable[[Path], None]) -> str:
    return spoil.__name__


@pytest.mark.parametrize("spoil", PICTURES | COLMAP, ids=name)
def test_damage_to_colmap_projects(
    spoil: Callable[[Path], None], colmap: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(colmap, tmp_path / "project")
    spoil(project)
    assert re.search((PICTURES | COLMAP)[spoil], reasons(project, "pycolmap"))


@pytest.mark.parametrize("spoil", PICTURES | NERFSTUDIO, ids=name)
def test_damage_to_nerfstudio_projects(
    spoil: Callable[[Path], None], nerfstudio: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(nerfstudio, tmp_path / "project")
    spoil(project)
    assert re.search((PICTURES | NERFSTUDIO)[spoil], reasons(project, "transforms.json"))


WITHOUT_TRACKS: dict[Callable[[Path], None], str] = PICTURES | {
    damage.ns_flip_axes: "camera axes are flipped",
    damage.ns_shuffle_names: "pictures are shuffled",
    damage.ns_seeds_in_the_world_of_the_scan: "seed points are in other coordinates",
    damage.ns_depth_in_another_unit: "depth is 5 times what the points say",
}


@pytest.mark.parametrize("spoil", WITHOUT_TRACKS, ids=name)
def test_depth_and_colours_tell_where_there_are_no_tracks(
    spoil: Callable[[Path], None], nerfstudio: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(nerfstudio, tmp_path / "project")
    shutil.rmtree(project / "colmap")
    assert check_project(project).passed
    spoil(project)
    assert re.search(WITHOUT_TRACKS[spoil], reasons(project, "transforms.json"))


# -- the command ---------------------------------------------------------------------------------


def test_the_command_prints_a_table(nerfstudio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(nerfstudio)]) == 0
    printed = capsys.readouterr().out
    assert "pycolmap" in printed and "FAILED" not in printed


def test_the_command_fails_loudly(
    nerfstudio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = shutil.copytree(nerfstudio, tmp_path / "project")
    damage.ns_flip_axes(project)
    assert main(["check", str(project)]) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out
    assert "wrong: transforms.json: camera axes are flipped" in printed.out
    assert f"mem3r: error: {project} is not right for transforms.json" in printed.err
