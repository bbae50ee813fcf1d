"""The COLMAP project as pycolmap reads it back, held against the scan and the room it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image

from mem3r_check import check_project
from mem3r_colmap import ColmapExportConfig, ColmapReport, export_colmap
from mem3r_plugin.errors import OutputError, ScanError
from mem3r_plugin.exports import PointCloudConfig
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.room_scan import distance_to_walls, make_room_scan, room_colours

SOURCES: dict[str, dict[str, Any]] = {
    **{f"exif{o}": {"orientation": o, "suffix": ".jpg"} for o in range(1, 9)},
    "portrait": {"size": (150, 200)},
    "square, cropped to 4:3": {"size": (180, 180)},
    "wide, cropped at the sides": {"size": (417, 129)},
    "odd size, enlarged": {"size": (91, 67), "focal": 70.0, "network_size": 160},
    "video": {"kind": "video"},
    "arrays": {"kind": "arrays", "suffix": ".jpg"},
    "names with blanks": {"name": "walk {} of 6"},
    "zoom": {"zoom": 1.1},
}


@pytest.fixture(params=SOURCES, scope="module")
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Scan, Path, ColmapReport]:
    folder = tmp_path_factory.mktemp("colmap")
    scan = make_room_scan(folder, **SOURCES[request.param])
    report = export_colmap(scan, folder / "project")
    check = check_project(folder / "project")
    assert check.passed, check.problems
    return scan, folder / "project", report


@pytest.fixture
def room(tmp_path: Path) -> Scan:
    return make_room_scan(tmp_path / "room")


def read(project: Path) -> pycolmap.Reconstruction:
    return pycolmap.Reconstruction(str(project / "sparse" / "0"))


def images_by_frame(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    """The test scans' names sort like their frames."""
    return sorted(model.images.values(), key=lambda image: image.name)


def matrix(image: pycolmap.Image) -> np.ndarray:
    return np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])


def intrinsics(image: pycolmap.Image) -> Intrinsics:
    camera = image.camera
    assert camera.model == pycolmap.CameraModelId.PINHOLE
    fx, fy, cx, cy = camera.params
    return Intrinsics(fx, fy, cx, cy, camera.width, camera.height)


# -- every kind of source ------------------------------------------------------------------------


def test_cameras_and_sorted_images(exported: tuple[Scan, Path, ColmapReport]) -> None:
    scan, project, report = exported
    model = read(project)
    cameras = [intrinsics(image) for image in images_by_frame(model)]
    assert cameras == [scan.frame_camera(index) for index in range(len(scan))]
    assert model.num_cameras() == len(set(cameras))
    assert len(set(cameras)) == (1 if scan.camera_mode == "shared" else len(scan))
    names = [model.images[i].name for i in sorted(model.images)]
    assert names == sorted(names) == sorted(path.name for path in (project / "images").iterdir())
    assert sorted(model.images) == list(range(1, len(scan) + 1))
    assert report.images == model.num_reg_images() == len(scan)
    assert report.images_without_points == () and report.warnings == ()


def test_poses_survive(exported: tuple[Scan, Path, ColmapReport]) -> None:
    scan, project, _ = exported
    for frame, image in zip(scan.frames, images_by_frame(read(project)), strict=True):
        np.testing.assert_allclose(invert_pose(matrix(image)), frame.camera_to_world, atol=1e-9)


def test_pictures_are_upright_and_original(exported: tuple[Scan, Path, ColmapReport]) -> None:
    scan, project, _ = exported
    model = read(project)
    for index, image in enumerate(images_by_frame(model)):
        file = project / "images" / image.name
        assert " " not in image.name
        with Image.open(file) as picture:
            assert picture.getexif().get(0x0112, 1) == 1
            assert picture.format == {".jpg": "JPEG", ".png": "PNG"}[file.suffix]
            pixels = np.asarray(picture.convert("RGB"))
        assert pixels.shape == (scan.camera.height, scan.camera.width, 3)
        source = scan.image_file(index)
        if source is not None:
            assert file.read_bytes() == source.read_bytes() and not file.is_symlink()
        difference = np.abs(pixels.astype(int) - scan.image(index)).mean()
        assert difference <= (1.5 if file.suffix == ".jpg" else 0)


def test_depth_reprojects_to_the_pixel_it_came_from(
    exported: tuple[Scan, Path, ColmapReport],
) -> None:
    scan, project, _ = exported
    model = read(project)
    network_pixels = scan.network_camera.pixel_centres()
    original_pixels = scan.transform.inverse.pixels(network_pixels)
    for index, image in enumerate(images_by_frame(model)):
        depth = scan.depth(index)
        known = depth > 0
        network_camera = scan.frame_network_camera(index)
        points = network_camera.unproject(network_pixels[known], depth[known])
        world = transform_points(scan.frames[index].camera_to_world, points)
        reprojected = intrinsics(image).project(transform_points(matrix(image), world))
        np.testing.assert_allclose(reprojected, original_pixels[known], atol=1e-3)


def test_tracks_and_observations_point_at_each_other(
    exported: tuple[Scan, Path, ColmapReport],
) -> None:
    _, project, report = exported
    model = read(project)
    seen = 0
    for point_id, point in model.points3D.items():
        elements = [(element.image_id, element.point2D_idx) for element in point.track.elements]
        assert len({image_id for image_id, _ in elements}) == len(elements) >= 2
        for image_id, index in elements:
            assert model.images[image_id].points2D[index].point3D_id == point_id
        seen += len(elements)
    recorded = [p.has_point3D() for image in model.images.values() for p in image.points2D]
    assert all(recorded)
    assert seen == len(recorded) == report.observations
    assert report.points == model.num_points3D() > 1000
    assert report.mean_track_length == pytest.approx(seen / report.points)


def test_reprojection_errors_are_as_stated(exported: tuple[Scan, Path, ColmapReport]) -> None:
    _, project, report = exported
    model = read(project)
    positions = {point_id: point.xyz for point_id, point in model.points3D.items()}
    errors: dict[int, list[float]] = {point_id: [] for point_id in positions}
    for image in model.images.values():
        seen = [point.point3D_id for point in image.points2D]
        observed = np.array([point.xy for point in image.points2D])
        in_camera = transform_points(matrix(image), np.array([positions[i] for i in seen]))
        camera = intrinsics(image)
        distances = np.linalg.norm(camera.project(in_camera) - observed, axis=1)
        assert camera.contains(observed).all()
        for point_id, distance in zip(seen, distances.tolist(), strict=True):
            errors[point_id].append(distance)
    for point_id, point in model.points3D.items():
        assert abs(np.mean(errors[point_id]) - point.error) <= 1e-6
    assert report.mean_reprojection_error <= 1e-6


def test_points_are_on_the_walls_and_have_their_colour(
    exported: tuple[Scan, Path, ColmapReport],
) -> None:
    _, project, _ = exported
    points = read(project).points3D.values()
    positions = np.array([point.xyz for point in points])
    assert distance_to_walls(positions).max() < 2e-3  # the scan's depth unit is 1e-3
    painted = room_colours(positions).astype(int)
    found = np.array([point.color for point in points])
    assert np.abs(painted - found).mean() < 3


# -- tracks --------------------------------------------------------------------------------------


def hide_left_half_of_frame_3(estimate: FrameEstimate) -> FrameEstimate:
    """Something stands before the left half of one picture."""
    if estimate.frame.index != 3:
        return estimate
    depth = estimate.depth.copy()
    depth[:, : depth.shape[1] // 2] *= 0.5
    return replace(estimate, depth=depth)


def test_hidden_points_are_not_observed(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, edit=hide_left_half_of_frame_3)
    export_colmap(scan, tmp_path / "project")
    images = images_by_frame(read(tmp_path / "project"))
    in_left_half = [
        np.mean([point.xy[0] < scan.camera.width / 2 for point in image.points2D])
        for image in images
    ]
    assert in_left_half.pop(3) == 0
    assert min(in_left_half) > 0.2


def test_every_frame_that_sees_a_point_is_in_its_track(room: Scan, tmp_path: Path) -> None:
    config = ColmapExportConfig()
    report = export_colmap(room, tmp_path / "project", config)
    model = read(tmp_path / "project")
    for point_id in sorted(model.points3D)[::100]:
        point = model.points3D[point_id]
        expected = set()
        for index, frame in enumerate(room.frames):
            in_camera = transform_points(invert_pose(frame.camera_to_world), point.xyz)
            pixel = room.camera.project(in_camera)
            x, y = np.floor(room.transform.pixels(pixel)).astype(int)
            depth, confidence = room.depth(index), room.confidence(index)
            if not (0 <= y < depth.shape[0] and 0 <= x < depth.shape[1]):
                continue
            agrees = abs(depth[y, x] - in_camera[2]) <= config.depth_tolerance * in_camera[2]
            if agrees and confidence[y, x] >= report.min_confidence:
                expected.add(images_by_frame(model)[index].image_id)
        assert {element.image_id for element in point.track.elements} == expected


def test_observations_are_shared_out(room: Scan, tmp_path: Path) -> None:
    config = ColmapExportConfig(max_observations=1200)
    report = export_colmap(room, tmp_path / "project", config)
    counts = [image.num_points3D for image in read(tmp_path / "project").images.values()]
    assert max(counts) <= 200
    assert report.observations > 1000
    assert report.mean_track_length > 4  # the same points were kept in all pictures


def test_bundle_adjustment_brings_a_moved_camera_back(room: Scan, tmp_path: Path) -> None:
    config = ColmapExportConfig(points=PointCloudConfig(max_points=600))
    export_colmap(room, tmp_path / "project", config)
    model = read(tmp_path / "project")
    image = images_by_frame(model)[4]
    right = image.cam_from_world()
    image.frame.rig_from_world = pycolmap.Rigid3d(right.rotation, right.translation + 0.02)
    assert model.compute_mean_reprojection_error() < 1e-6  # as stored
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() > 0.1
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.refine_extra_params = False
    options.print_summary = False
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 1e-3
    assert np.linalg.norm(
        image.cam_from_world().translation - right.translation
    ) < 0.1 * np.linalg.norm([0.02] * 3)


# -- options and reports -------------------------------------------------------------------------


def test_text_model_equals_binary_model(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, name="walk {} of 6")
    export_colmap(scan, tmp_path / "binary")
    export_colmap(scan, tmp_path / "text", ColmapExportConfig(text=True))
    assert {path.suffix for path in (tmp_path / "text/sparse/0").iterdir()} == {".txt"}
    binary, text = read(tmp_path / "binary"), read(tmp_path / "text")
    assert [i.name for i in images_by_frame(binary)] == [i.name for i in images_by_frame(text)]
    assert text.num_points3D() == binary.num_points3D()
    assert text.compute_num_observations() == binary.compute_num_observations()


def test_point_count_stays_below_the_limit(room: Scan, tmp_path: Path) -> None:
    config = ColmapExportConfig(points=PointCloudConfig(max_points=300))
    report = export_colmap(room, tmp_path / "project", config)
    assert 100 < report.points <= 300


def without_depth(frames: set[int], estimate: FrameEstimate) -> FrameEstimate:
    if estimate.frame.index not in frames:
        return estimate
    nothing = np.zeros_like(estimate.depth)
    return replace(estimate, depth=nothing, confidence=nothing + 1)


def test_pictures_without_points_are_kept_and_named(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, edit=lambda estimate: without_depth({2, 5}, estimate))
    report = export_colmap(scan, tmp_path / "project")
    assert report.images_without_points == ("002.png", "005.png")
    assert "2 of 6 pictures" in report.warnings[0]
    model = read(tmp_path / "project")
    assert model.num_reg_images() == 6
    assert [image.num_points3D > 0 for image in images_by_frame(model)] == [
        index not in (2, 5) for index in range(6)
    ]


def test_scan_without_any_depth_gives_poses(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, edit=lambda estimate: without_depth(set(range(6)), estimate))
    report = export_colmap(scan, tmp_path / "project")
    assert (report.points, report.observations, report.mean_reprojection_error) == (0, 0, 0)
    assert len(report.images_without_points) == 6
    assert read(tmp_path / "project").num_reg_images() == 6


def test_one_frame_has_no_tracks_unless_single_sightings_count(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, frames=1)
    assert export_colmap(scan, tmp_path / "two").points == 0
    single = export_colmap(scan, tmp_path / "one", ColmapExportConfig(min_track_length=1))
    assert single.points == single.observations > 500


def test_unfinished_scan_is_exported_and_said_to_be_so(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, complete=False)
    report = export_colmap(scan, tmp_path / "project")
    assert report.images == 6
    assert "not complete" in report.warnings[0]


def test_report_is_on_disk(room: Scan, tmp_path: Path) -> None:
    report = export_colmap(room, tmp_path / "project")
    stored = json.loads((tmp_path / "project/report.json").read_text())
    assert stored["points"] == report.points
    assert set(stored) == set(ColmapReport.__dataclass_fields__)


# -- trouble -------------------------------------------------------------------------------------


def test_occupied_output_is_refused(room: Scan, tmp_path: Path) -> None:
    project = tmp_path / "project"
    export_colmap(room, project)
    before = (project / "report.json").stat().st_mtime_ns
    with pytest.raises(OutputError, match="not empty"):
        export_colmap(room, project)
    assert (project / "report.json").stat().st_mtime_ns == before
    export_colmap(room, project, ColmapExportConfig(overwrite=True, text=True))
    assert not (project / "sparse/0/images.bin").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "room"]


def test_foreign_folder_is_never_overwritten(room: Scan, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.jpg").write_bytes(b"precious")
    with pytest.raises(OutputError, match="not an earlier export"):
        export_colmap(room, tmp_path / "photos", ColmapExportConfig(overwrite=True))
    assert (tmp_path / "photos/holiday.jpg").read_bytes() == b"precious"


def test_lost_picture_leaves_no_half_project(room: Scan, tmp_path: Path) -> None:
    lost = room.image_file(3)
    assert lost is not None
    lost.unlink()
    with pytest.raises(ScanError, match=r"003\.png"):
        export_colmap(room, tmp_path / "project")
    assert [path.name for path in tmp_path.iterdir()] == ["room"]


def test_changed_picture_is_noticed(room: Scan, tmp_path: Path) -> None:
    changed = room.image_file(3)
    assert changed is not None
    Image.new("RGB", (20, 10)).save(changed)
    with pytest.raises(ScanError, match=r"003\.png .*20x10"):
        export_colmap(room, tmp_path / "project")


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Mounts file systems of a given size in bytes."""
    mounted = []

    def mount(size: int) -> Path:
        target = tmp_path / "disk"
        target.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(target)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting a small disk is not permitted here")
        mounted.append(target)
        return target

    yield mount
    for target in mounted:
        subprocess.run(["umount", str(target)], check=True)


@pytest.mark.parametrize("part", ["images", "sparse"])
def test_full_disk(part: str, room: Scan, tmp_path: Path, small_disk: Any) -> None:
    export_colmap(room, tmp_path / "reference")
    sizes = {
        name: sum(f.stat().st_size for f in (tmp_path / "reference" / name).rglob("*.*"))
        for name in ("images", "sparse")
    }
    room_for = sizes["images"] // 2 if part == "images" else sizes["images"] + sizes["sparse"] // 2
    disk = small_disk(room_for)
    with pytest.raises(OutputError, match="No space left"):
        export_colmap(room, disk / "project")
    assert list(disk.iterdir()) == []


def test_file_size_limit_leaves_no_torn_model(room: Scan, tmp_path: Path) -> None:
    """pycolmap itself would write half a model and report success."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from mem3r_colmap import export_colmap; from mem3r_plugin.scan import Scan\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "export_colmap(Scan.open(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(room.path), str(tmp_path / "project")],
        capture_output=True,
        text=True,
    )
    assert "OutputError: cannot write" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["room"]
