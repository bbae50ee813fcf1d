"""Pictures of a room whose every colour is known, without a screen."""

import math
from pathlib import Path

import cv2
import numpy as np
import open3d as o3d
import pytest
from numpy.typing import NDArray

from mem3r_open3d.mesh_files import FACE, VERTEX, Records, write_glb
from mem3r_open3d.render import PANEL, Viewpoint, overview, renderer, save_picture
from mem3r_open3d.surface import Surface, load_surface, scan_surface
from mem3r_plugin.errors import SourceError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import pose_matrix
from tests.room_scan import HIGH, LOW, make_room_scan, room_colours, room_points, room_pose

CAMERA = Intrinsics(150.0, 140.0, 78.0, 66.0, 160, 120)
POSES = np.stack([room_pose(index) for index in range(6)])


def room_mesh() -> Surface:
    """The walls as they are seen from inside, in small squares."""
    box = o3d.geometry.TriangleMesh.create_box(*(HIGH - LOW)).translate(LOW)
    box = box.subdivide_midpoint(6)
    faces = np.asarray(box.triangles)[:, ::-1].astype(np.int32)
    corners = np.asarray(box.vertices)[faces]
    positions = corners.reshape(-1, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Surface(
        positions.astype(np.float32),
        room_colours(positions),
        np.repeat(normals, 3, axis=0).astype(np.float32),
        np.arange(len(positions), dtype=np.int32).reshape(-1, 3),
    )


@pytest.fixture(scope="module")
def mesh() -> Surface:
    return room_mesh()


def lit_room(view: Viewpoint) -> NDArray[np.float64]:
    """What a lamp at the camera shows of the room."""
    points = room_points(view.camera, view.camera_to_world)
    rays = points - view.camera_to_world[:3, 3]
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    gap = np.minimum(np.abs(points - LOW), np.abs(points - HIGH))
    facing = np.abs(np.take_along_axis(rays, gap.argmin(axis=-1)[..., None], axis=-1))
    lit: NDArray[np.float64] = room_colours(points) * (0.5 + 0.5 * facing)
    return lit


@pytest.mark.parametrize("index", [0, 5])
def test_a_camera_in_the_room_sees_what_it_saw(mesh: Surface, index: int) -> None:
    view = Viewpoint(CAMERA, POSES[index])
    picture = renderer(mesh)(view)
    assert np.abs(picture - lit_room(view)).mean() < 1


def test_from_outside_the_room_is_open(mesh: Surface) -> None:
    up, side = np.array([0.0, -1.0, 0.0]), np.array([0.6, 0.0, 0.8])
    view = overview(mesh, up, side)
    picture = renderer(mesh)(view)
    position, forward = view.camera_to_world[:3, 3], view.camera_to_world[:3, 2]
    assert (position > HIGH).any() or (position < LOW).any()
    floor = position + forward * (HIGH[1] - position[1]) / forward[1]
    assert (floor > LOW - 1e-9).all() and (floor < HIGH + 1e-9).all()
    expected = room_colours(floor) * (0.5 + 0.5 * abs(forward[1]))
    seen = picture[PANEL[1] // 2 - 1 : PANEL[1] // 2 + 1, PANEL[0] // 2 - 1 : PANEL[0] // 2 + 1]
    assert np.abs(seen.mean(axis=(0, 1)) - expected).max() < 4
    edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edges == 245).all(), "an overview shows the whole"


def test_dots_close_up(mesh: Surface) -> None:
    """Points without triangles show the same colours, unlit, and leave no gaps."""
    assert mesh.normals is not None
    corners = np.concatenate([mesh.positions, mesh.normals], axis=1).round(4)
    once = np.unique(corners, axis=0, return_index=True)[1]
    cloud = Surface(mesh.positions[once], mesh.colors[once], mesh.normals[once], None)
    view = Viewpoint(CAMERA, POSES[0])
    picture = renderer(cloud)(view)
    true = room_colours(room_points(CAMERA, POSES[0]))
    drawn = (picture != 245).any(axis=-1)
    assert drawn.mean() > 0.99
    assert np.abs(picture[drawn].astype(int) - true[drawn]).mean() < 5


def test_dots_in_front_hide_those_behind() -> None:
    positions = np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 3.0]], np.float32)
    colors = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    camera = Intrinsics.centred(50.0, 31, 31)
    picture = renderer(Surface(positions, colors, None, None))(Viewpoint(camera, np.eye(4)))
    assert tuple(picture[15, 15]) == (0, 200, 0)
    behind = pose_matrix(np.diag([-1.0, 1.0, -1.0]), [0.0, 0.0, 9.0])
    picture = renderer(Surface(positions, colors, None, None))(Viewpoint(camera, behind))
    assert tuple(picture[15, 15]) == (0, 0, 200)


@pytest.mark.parametrize("poses", [None, POSES])
def test_a_picture_has_four_views(
    mesh: Surface,
    poses: NDArray[np.float64] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = (160, 120)
    monkeypatch.setattr("mem3r_open3d.render.PANEL", size)
    save_picture(mesh, tmp_path / "room.png", poses)
    picture = cv2.imread(str(tmp_path / "room.png"))
    assert picture is not None
    assert picture.shape == (2 * size[1], 2 * size[0], 3)
    for rows in np.split(picture, 2):
        for panel in np.split(rows, 2, axis=1):
            assert (panel != 245).any(axis=-1).mean() > 0.1
    save_picture(mesh, tmp_path / "again.png", poses)
    assert (tmp_path / "room.png").read_bytes() == (tmp_path / "again.png").read_bytes()


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_a_mesh_from_a_file(mesh: Surface, suffix: str, tmp_path: Path) -> None:
    assert mesh.faces is not None
    stored = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.positions), o3d.utility.Vector3iVector(mesh.faces)
    )
    stored.vertex_colors = o3d.utility.Vector3dVector(mesh.colors / 255)
    file = tmp_path / f"room{suffix}"
    assert o3d.io.write_triangle_mesh(str(file), stored)
    loaded = load_surface(file)
    assert loaded.faces is not None and loaded.normals is not None
    triangles = loaded.positions[loaded.faces], mesh.positions[mesh.faces]
    np.testing.assert_allclose(*triangles, atol=1e-5)
    assert np.abs(loaded.colors[loaded.faces].astype(int) - mesh.colors[mesh.faces]).max() <= 1


def test_gltf_has_other_axes(tmp_path: Path) -> None:
    records = np.zeros(3, VERTEX)
    records["position"] = [[0, 0, 1], [1, 0, 1], [0, 2, 1]]
    records.tofile(tmp_path / "vertices")
    np.array([[0, 1, 2]], "<i4").tofile(tmp_path / "faces")
    vertices, faces = (
        Records(tmp_path / "vertices", VERTEX, 3),
        Records(tmp_path / "faces", FACE, 1),
    )
    write_glb(tmp_path / "a.glb", vertices, faces)
    loaded = load_surface(tmp_path / "a.glb")
    assert loaded.faces is not None
    np.testing.assert_allclose(loaded.positions[loaded.faces[0]], records["position"], atol=1e-6)


def test_a_point_cloud_from_a_file(mesh: Surface, tmp_path: Path) -> None:
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(mesh.positions[:99]))
    o3d.io.write_point_cloud(str(tmp_path / "points.ply"), cloud)
    loaded = load_surface(tmp_path / "points.ply")
    assert loaded.faces is None and loaded.positions.shape == loaded.colors.shape == (99, 3)


def test_the_points_of_a_scan_face_their_cameras(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, frames=2)
    surface = scan_surface(scan)
    assert surface.normals is not None
    middle = np.mean([LOW, HIGH], axis=0)
    assert ((surface.normals * (middle - surface.positions)).sum(axis=1) > 0).mean() > 0.95
    assert math.isclose(float(np.linalg.norm(surface.normals[0])), 1, abs_tol=1e-5)


def test_files_that_cannot_be_shown(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        load_surface(tmp_path / "room.ply")
    for name in ("room.ply", "room.obj", "room.glb"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(SourceError, match=name):
            load_surface(tmp_path / name)
    (tmp_path / "room.txt").write_text("junk")
    with pytest.raises(SourceError, match="must end in"):
        load_surface(tmp_path / "room.txt")
