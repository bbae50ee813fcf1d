from dataclasses import replace

import cv2  # noqa: F401 - before Open3D
import numpy as np
import open3d as o3d
import pytest
from scipy.spatial import cKDTree

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.extract import surface_parts
from mem3r_open3d.islands import without_islands
from mem3r_open3d.kernels import BLOCK_SIZE, unpack_keys
from mem3r_open3d.mesh import MeshConfig, write_surface
from mem3r_open3d.mesh_files import FACE, VERTEX, Records
from mem3r_open3d.store import BlockStore
from mem3r_plugin.errors import ConfigError
from tests.integrations.open3d.rooms import all_blocks, fused, room_frame
from tests.room_scan import distance_to_walls, room_colours

VOXEL = 0.027  # the room then takes several regions
CONFIG = FusionConfig(voxel=VOXEL, truncation=4 * VOXEL)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlockStore:
    frames = [room_frame(i) for i in range(0, 40, 4)]
    return fused(tmp_path_factory.mktemp("fusion") / "room.tsdf", frames, VOXEL)


@pytest.fixture(scope="module")
def mesh(store: BlockStore, tmp_path_factory: pytest.TempPathFactory) -> o3d.geometry.TriangleMesh:
    file = tmp_path_factory.mktemp("mesh") / "room.ply"
    write_surface(store, CONFIG, MeshConfig(), file)
    return o3d.io.read_triangle_mesh(str(file))


def open3d_mesh(store: BlockStore) -> o3d.t.geometry.TriangleMesh:
    """What Open3D extracts of the same blocks in one go."""
    blocks = all_blocks(store)
    float32 = o3d.core.float32
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (float32,) * 3, ((1), (1), (3)), VOXEL, BLOCK_SIZE, len(blocks)
    )
    table = grid.hashmap()
    slots = table.activate(o3d.core.Tensor(unpack_keys(blocks.keys)))[0].numpy()
    for i, values in enumerate((blocks.tsdf, blocks.weight, blocks.color)):
        attribute = table.value_tensor(i).numpy()
        attribute[slots] = values.reshape(-1, *attribute.shape[1:])
    mesh = grid.extract_triangle_mesh(weight_threshold=MeshConfig().min_weight)
    return mesh.translate(np.full(3, VOXEL / 2))  # its voxels lie at the corner of their cells


def test_regions_together_have_the_vertices_that_open3d_extracts_in_one_go(store, mesh):
    assert len(store.regions) > 8
    theirs = open3d_mesh(store)
    positions = theirs.vertex.positions.numpy()
    assert len(mesh.vertices) == len(positions)
    distance, same = cKDTree(positions).query(np.asarray(mesh.vertices))
    assert distance.max() < 1e-5
    assert len(np.unique(same)) == len(positions)
    assert np.allclose(mesh.vertex_colors, theirs.vertex.colors.numpy()[same], atol=1 / 255)
    # Where the corners of a cube leave a choice, it may be another one.
    assert len(mesh.triangles) == pytest.approx(len(theirs.triangle.indices), rel=1e-3)


def test_no_seams_and_no_doubled_faces(store, mesh):
    assert mesh.is_edge_manifold()
    assert len(np.unique(np.sort(np.asarray(mesh.triangles)), axis=0)) == len(mesh.triangles)
    rim = mesh.get_non_manifold_edges(allow_boundary_edges=False)
    theirs = open3d_mesh(store).to_legacy().get_non_manifold_edges(allow_boundary_edges=False)
    assert len(rim) == pytest.approx(len(theirs), rel=0.01)


def test_vertices_lie_on_the_walls_with_their_colours_and_normals(mesh):
    vertices = np.asarray(mesh.vertices)
    assert np.quantile(distance_to_walls(vertices), 0.95) < VOXEL
    painted = room_colours(vertices) / 255
    assert np.quantile(np.abs(np.asarray(mesh.vertex_colors) - painted), 0.95) < 0.06
    normals = np.asarray(mesh.vertex_normals)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    back = np.abs(vertices[:, 2] - 3.5) < VOXEL
    facing = normals[back & (np.abs(vertices[:, :2]) < 0.8).all(axis=1)]
    assert len(facing) > 100
    assert np.median(facing[:, 2]) < -0.99  # towards the cameras


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_every_format_holds_the_same_mesh(store, mesh, tmp_path, suffix):
    file = tmp_path / f"room{suffix}"
    counts = write_surface(store, CONFIG, MeshConfig(), file)
    assert counts == (len(mesh.vertices), len(mesh.triangles))
    other = o3d.io.read_triangle_mesh(str(file))
    assert len(other.triangles) == len(mesh.triangles)
    # What reads them puts vertices in another order. A glTF has y up, so its node turns the mesh.
    turn = [1, -1, -1] if suffix == ".glb" else [1, 1, 1]
    own, read = np.asarray(mesh.vertices), np.asarray(other.vertices) * turn
    tree = cKDTree(own)
    distance, same = tree.query(read)
    assert distance.max() < 1e-5
    assert len(np.unique(same)) > 0.999 * len(own)  # an OBJ is rounded
    colors = np.asarray(other.vertex_colors) - np.asarray(mesh.vertex_colors)[same]
    assert np.quantile(np.abs(colors), 0.999) < 2 / 255
    normals = np.asarray(other.vertex_normals) * turn - np.asarray(mesh.vertex_normals)[same]
    assert np.quantile(np.abs(normals), 0.999) < 1e-3


def test_a_surface_through_the_voxels_has_one_vertex_in_a_place(tmp_path):
    voxel = 0.04  # three walls of the room then go through the middle of cells
    aligned = fused(tmp_path / "room.tsdf", [room_frame(i) for i in (0, 8)], voxel)
    config = FusionConfig(voxel=voxel, truncation=4 * voxel)
    write_surface(aligned, config, MeshConfig(), tmp_path / "room.ply")
    mesh = o3d.io.read_triangle_mesh(str(tmp_path / "room.ply"))
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    assert len(np.unique(vertices, axis=0)) == len(vertices)
    assert (faces != np.roll(faces, 1, axis=1)).all()
    assert len(np.unique(np.sort(faces, axis=1), axis=0)) == len(faces)


def test_points_have_normals_and_no_faces(store, mesh, tmp_path):
    file = tmp_path / "room.ply"
    assert write_surface(store, CONFIG, MeshConfig(points=True), file)[1] == 0
    cloud = o3d.io.read_point_cloud(str(file))
    assert len(cloud.points) == len(mesh.vertices)
    assert cloud.has_normals() and cloud.has_colors()
    with pytest.raises(ConfigError, match=r"\.ply only"):
        write_surface(store, CONFIG, MeshConfig(points=True), tmp_path / "room.glb")
    with pytest.raises(ConfigError, match=r"must end in \.ply, \.glb, \.obj"):
        write_surface(store, CONFIG, MeshConfig(), tmp_path / "room.stl")


def test_islands_below_the_limit_are_left_out_and_the_rest_is_kept(tmp_path):
    faces = np.array([[0, 1, 2], [4, 3, 5], [2, 1, 6], [5, 4, 7], [6, 7, 8], [9, 10, 11]], np.int32)
    vertices = np.zeros(12, VERTEX)
    vertices["position"][:, 0] = np.arange(12)
    faces.tofile(tmp_path / "faces")
    vertices.tofile(tmp_path / "vertices")
    records = (
        Records(tmp_path / "vertices", VERTEX, 12),
        Records(tmp_path / "faces", FACE, len(faces)),
    )
    kept_vertices, kept_faces = without_islands(*records, 2, tmp_path)
    (kept,) = kept_vertices.chunks()
    assert kept["position"][:, 0].tolist() == list(range(9))
    (corners,) = kept_faces.chunks()
    assert corners.tolist() == faces[:5].tolist()
    assert without_islands(*records, 6, tmp_path)[1].count == 0


def test_voxels_without_a_sign_change_make_no_mesh(store, tmp_path):
    blocks = all_blocks(store)
    with BlockStore(tmp_path / "free.tsdf") as free:
        free.save(0, replace(blocks, tsdf=np.ones_like(blocks.tsdf)))
        (part,) = surface_parts(free, VOXEL, MeshConfig().min_weight, 1000)
    assert len(part.positions) == len(part.faces) == 0
