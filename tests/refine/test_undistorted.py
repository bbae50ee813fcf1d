"""A world seen through a bent lens comes out as pictures of a pinhole camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.refine import refine as refinement
from mem3r_plugin.refine.posed import PosedFrames, Support
from mem3r_plugin.refine.poses import PoseReport
from mem3r_plugin.refine.refine import RefineConfig, RefineReport, refine
from mem3r_plugin.refine.straight import StraightScan
from mem3r_plugin.refine.undistort import Undistortion
from mem3r_plugin.scan import Scan
from tests.room_scan import along_rays, make_room_scan, room_colours, room_points, room_pose

RADIAL = -0.2


def lens(scan: Scan) -> Undistortion:
    return Undistortion.without_blanks(scan.camera, RADIAL)


@pytest.fixture(scope="module")
def bent_room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """A scan whose pictures a barrel lens took."""
    scan = make_room_scan(tmp_path_factory.mktemp("bent"), frames=4)
    way = lens(scan)
    for index in range(len(scan)):
        file = scan.image_file(index)
        assert file is not None
        Image.fromarray(bent_picture(way, index)).save(file)
    return scan


def bent_picture(way: Undistortion, index: int) -> np.ndarray:
    """What the lens shows of the room: every pixel looks along its own ray."""
    straight = way.pixels(way.lens.pixel_centres().reshape(-1, 2))
    rays = way.camera.unproject(straight, np.ones(len(straight)))
    picture = room_colours(along_rays(rays, room_pose(index)))
    return picture.reshape(way.lens.height, way.lens.width, 3)


def true_poses(scan: Scan) -> PosedFrames:
    """What bundle adjustment with a radial coefficient would find at its best."""
    way = lens(scan)
    poses = np.stack([room_pose(index) for index in range(len(scan))])
    rng = np.random.default_rng(0)
    world = room_points(scan.camera, poses[3]).reshape(-1, 3)
    world = world[rng.choice(len(world), 300, replace=False)]
    frames, rows, pixels = [], [], []
    for index, pose in enumerate(poses):
        seen = way.camera.project(transform_points(invert_pose(pose), world))
        inside = np.flatnonzero(way.camera.contains(seen))
        frames.append(np.full(len(inside), index))
        rows.append(inside)
        pixels.append(seen[inside])
    support: list[Support] = ["mapped"] * len(scan)
    sightings = np.concatenate(frames), np.concatenate(rows), np.concatenate(pixels)
    return PosedFrames(way.camera, poses, tuple(support), world, *sightings, undistortion=way)


@pytest.fixture(scope="module")
def refined(bent_room: Scan, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """The scan refined at the true poses; finding these is tested elsewhere."""
    output = tmp_path_factory.mktemp("refined") / "scan"
    posed = true_poses(bent_room)

    def found(*_: object) -> tuple[PosedFrames, PoseReport]:
        (output / "refine").mkdir()
        return posed, pose_report(posed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refinement, "refine_poses", found)
        return refine(RefineConfig(bent_room.path, output))


def pose_report(posed: PosedFrames) -> PoseReport:
    fields = dict.fromkeys(PoseReport.__dataclass_fields__, 0)
    return PoseReport(**{**fields, "focal": posed.camera.fx, "warnings": ()})  # type: ignore[arg-type]


def test_pictures_are_those_of_the_pinhole(bent_room: Scan, refined: Scan) -> None:
    way = lens(bent_room)
    assert RefineReport.load(refined.path).result == "refined"
    assert refined.camera.fx == pytest.approx(way.camera.fx)
    for index in range(len(refined)):
        painted = room_colours(room_points(way.camera, room_pose(index))).astype(int)
        straight, bent = (np.abs(painted - scan.image(index)) for scan in (refined, bent_room))
        assert np.percentile(straight, 99) < 2 < np.percentile(bent, 99)
        assert refined.frames[index].image == f"images/{index:06d}.png"


def test_the_colmap_project_fits_its_pictures(refined: Scan, tmp_path: Path) -> None:
    report = export_colmap(refined, tmp_path / "project", ColmapExportConfig(densify=False))
    assert report.measured is not None and report.measured.mean_reprojection_error < 1e-3
    model = pycolmap.Reconstruction(str(tmp_path / "project/sparse/0"))
    assert model.cameras[1].model == pycolmap.CameraModelId.PINHOLE
    for image in model.images.values():
        with Image.open(tmp_path / "project/images" / image.name) as file:
            picture = np.asarray(file).astype(int)
        seen = [point for point in image.points2D if point.has_point3D()]
        columns, rows = np.floor([point.xy for point in seen]).astype(int).T
        painted = room_colours(np.array([model.points3D[p.point3D_id].xyz for p in seen]))
        assert np.abs(picture[rows, columns] - painted.astype(int)).mean() < 2


def test_maps_are_straightened_as_they_are_read(bent_room: Scan) -> None:
    """A depth map of the lens, made from the pinhole's, is the pinhole's again."""
    way = lens(bent_room)
    view = StraightScan(bent_room, way)
    assert view.camera == way.camera
    assert view.image_file(0) is None
    assert bent_room.image_file(0) is not None
    maps = way.through(bent_room.transform)
    x, y = np.moveaxis(np.floor(maps.bent(maps.camera.pixel_centres())).astype(int), -1, 0)
    inside = (x >= 0) & (y >= 0) & (x < maps.lens.width) & (y < maps.lens.height)
    np.testing.assert_array_equal(view.depth(2)[inside], bent_room.depth(2)[y[inside], x[inside]])
    assert (view.confidence(2) >= 1).all()
