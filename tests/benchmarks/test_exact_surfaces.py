"""The surfaces that fusion is measured against are those that the depth shows."""

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d
import pytest

from benchmarks.corridor import DEPTH_UNIT, Corridor, CorridorConfig, write_corridor
from benchmarks.fusion_fidelity import exact_mesh
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.training.worlds import HELD_BACK, WorldConfig, generate_world, sample_path


def off_surface(points: np.ndarray, mesh: o3d.geometry.TriangleMesh) -> np.ndarray:
    """How far points (N, 3) are from a mesh, (N,)."""
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    return scene.compute_distance(o3d.core.Tensor(points.astype(np.float32))).numpy()


def test_the_depth_of_a_world_lies_on_its_exact_mesh() -> None:
    world = generate_world(WorldConfig(kind="room"), HELD_BACK + 1)
    camera = Intrinsics.centred(60.0, 80, 60)
    views = world.render(sample_path(world, 40, HELD_BACK + 1)[::10], camera)
    mesh = exact_mesh(world.primitives)
    points = [
        transform_points(pose, camera.unproject_depth(depth)[depth > 0])
        for depth, pose in zip(views.depth.numpy(), views.camera_to_world.numpy(), strict=True)
    ]
    distance = off_surface(np.concatenate(points), mesh)
    assert distance.mean() < 1e-4 and distance.max() < 0.01


@pytest.mark.parametrize("index", [0, 7, 1234])
def test_the_depth_of_the_corridor_lies_on_its_mesh(index: int) -> None:
    corridor = Corridor(CorridorConfig(size=(80, 60)))
    image, depth = corridor.view(index)
    assert (depth > 0).mean() > 0.8 and (image[depth == 0] == 0).all()
    local = corridor.camera.unproject_depth(depth)[depth > 0]
    assert off_surface(transform_points(corridor.pose(index), local), corridor.mesh).max() < 1e-3


def test_the_walk_is_even_and_comes_round() -> None:
    corridor = Corridor(CorridorConfig())
    poses = np.stack([corridor.pose(index) for index in range(5000)])
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-12)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert steps.min() > 0.029 and steps.max() < 0.031
    gap = np.linalg.norm(poses[-1, :3, 3] - poses[:400, :3, 3], axis=1).min()
    assert gap < 0.1, "the end of the walk goes over its beginning"


def test_the_corridor_as_a_scan(tmp_path) -> None:
    config = CorridorConfig(frames=3, size=(80, 60))
    scan = write_corridor(tmp_path / "scan", config, silent=True)
    corridor = Corridor(config)
    for index, frame in enumerate(scan.frames):
        image, depth = corridor.view(index)
        np.testing.assert_array_equal(scan.image(index), image)
        assert np.abs(scan.depth(index) - depth).max() <= 0.51 * DEPTH_UNIT
        np.testing.assert_array_equal(frame.camera_to_world, corridor.pose(index))
