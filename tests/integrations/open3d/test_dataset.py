"""Open3D sees a scan's frames where they are, by every one of its ways to look at pixels."""

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from examples.open3d_loop import VOXEL, fuse
from mem3r_open3d.dataset import (
    RGBDFrame,
    ScanDataset,
    color_on_depth_grid,
    frame_from_estimate,
)
from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from tests.geometry.strategies import poses
from tests.room_scan import (
    distance_to_walls,
    make_room_scan,
    room_colours,
    room_estimate,
    room_points,
    room_pose,
)

UNIT = 0.001
NORMAL = np.array([0.5, 0.3, -1.0]) / np.linalg.norm([0.5, 0.3, -1.0])
"""Of the slanted plane, in camera coordinates; half a pixel aside is millimetres off it."""
DISTANCE = 2.0


@st.composite
def cameras(draw: st.DrawFn) -> Intrinsics:
    """About 64x48, neither square pixels nor a centred principal point."""
    fx, fy = draw(st.floats(50, 80)), draw(st.floats(50, 80))
    return Intrinsics(fx, fy, 32 + draw(st.floats(-6, 6)), 24 + draw(st.floats(-6, 6)), 64, 48)


def plane_depth(camera: Intrinsics) -> NDArray[np.float32]:
    rays = camera.unproject_depth(np.ones((camera.height, camera.width)))
    return (-DISTANCE / (rays @ NORMAL)).astype(np.float32)


def plane_frame(camera: Intrinsics, pose: NDArray[np.float64]) -> RGBDFrame:
    size = (camera.width, camera.height)
    image = np.full((camera.height, camera.width, 3), 99, np.uint8)
    depth = plane_depth(camera)
    return frame_from_estimate(
        FrameEstimate(
            Frame(0, "0.png", 0.0, image),
            pose,
            depth,
            np.ones_like(depth),
            camera,
            ImageTransform.identity(size),
            camera.fx,
        ),
        UNIT,
    )


def off_plane(points: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed distances of world points (N, 3) to the plane that the camera at `pose` saw."""
    return (points - pose[:3, 3]) @ pose[:3, :3] @ NORMAL + DISTANCE


@settings(max_examples=25)
@given(cameras(), poses)
def test_legacy_points_lie_where_the_depth_says(camera: Intrinsics, pose: NDArray) -> None:
    frame = plane_frame(camera, pose)
    cloud = o3d.geometry.PointCloud.create_from_rgbd_image(
        frame.rgbd(), frame.intrinsic, frame.extrinsic
    )
    points = np.asarray(cloud.points)
    assert len(points) == 64 * 48
    assert np.abs(off_plane(points, pose)).max() < UNIT


@settings(max_examples=25)
@given(cameras(), poses)
def test_tensor_points_lie_where_the_depth_says(camera: Intrinsics, pose: NDArray) -> None:
    frame = plane_frame(camera, pose)
    cloud = o3d.t.geometry.PointCloud.create_from_depth_image(
        frame.depth,
        o3d.core.Tensor(np.array(frame.intrinsic.intrinsic_matrix)),
        o3d.core.Tensor(frame.extrinsic),
        frame.depth_scale,
        depth_max=100.0,
    )
    points = cloud.point.positions.numpy()
    assert len(points) == 64 * 48
    assert np.abs(off_plane(points, pose)).max() < UNIT


@settings(max_examples=25)
@given(cameras(), poses)
def test_cast_rays_meet_the_plane_at_the_depth(camera: Intrinsics, pose: NDArray) -> None:
    frame = plane_frame(camera, pose)
    across = np.linalg.svd(NORMAL[None])[2][1:]
    corners = -DISTANCE * NORMAL + 50 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) @ across
    corners = corners @ pose[:3, :3].T + pose[:3, 3]
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(corners.astype(np.float32)),
        o3d.core.Tensor([[0, 1, 2], [0, 2, 3]], o3d.core.uint32),
    )
    rays = scene.create_rays_pinhole(
        frame.grid_intrinsic, o3d.core.Tensor(frame.extrinsic), camera.width, camera.height
    )
    seen = scene.cast_rays(rays)["t_hit"].numpy()
    np.testing.assert_allclose(seen, frame.depth.as_tensor().numpy()[..., 0] * UNIT, atol=2 * UNIT)


@settings(max_examples=3)
@given(cameras(), poses)
def test_a_voxel_grid_puts_the_surface_where_it_is(camera: Intrinsics, pose: NDArray) -> None:
    frame = plane_frame(camera, pose)
    right = np.abs(off_plane(fused(frame, frame.grid_intrinsic), pose).mean())
    shifted = np.array(frame.intrinsic.intrinsic_matrix)
    wrong = np.abs(off_plane(fused(frame, o3d.core.Tensor(shifted)), pose).mean())
    assert right < 0.001 < 0.005 < wrong


def fused(frame: RGBDFrame, camera: object) -> NDArray[np.float64]:
    """Vertices (N, 3) of the surface that Open3D's own grid makes of one frame."""
    attributes = ("tsdf", "weight", "color"), (o3d.core.float32,) * 3, ((1,), (1,), (3,))
    grid = o3d.t.geometry.VoxelBlockGrid(*attributes, 0.02, block_count=1000)
    view = camera, o3d.core.Tensor(frame.extrinsic), frame.depth_scale, 100.0
    blocks = grid.compute_unique_block_coordinates(frame.depth, *view)
    grid.integrate(blocks, frame.depth, frame.color, *view)
    vertices: NDArray[np.float64] = grid.extract_triangle_mesh(0).vertex.positions.numpy()
    return vertices


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"), frames=3)


def test_the_frames_of_a_scan(scan: Scan) -> None:
    dataset = ScanDataset(scan)
    frames = list(dataset)
    assert len(dataset) == len(frames) == 3
    for index, frame in enumerate(frames):
        cloud = o3d.geometry.PointCloud.create_from_rgbd_image(
            frame.rgbd(), frame.intrinsic, frame.extrinsic
        )
        points = np.asarray(cloud.points)
        assert distance_to_walls(points).max() < 2 * scan.depth_unit
        colours = 255 * np.asarray(cloud.colors)
        assert np.abs(colours - room_colours(points)).mean() < 2
        depth = frame.depth.as_tensor().numpy()[..., 0] / frame.depth_scale
        np.testing.assert_allclose(depth, scan.depth(index), rtol=1e-6)
        assert frame.camera == scan.frame_network_camera(index)
    with pytest.raises(IndexError):
        dataset[3]
    assert (dataset[-1].extrinsic == frames[2].extrinsic).all()


def test_depth_of_little_confidence_is_left_out(scan: Scan) -> None:
    confidence = scan.confidence(0)
    least = float(np.median(confidence))
    depth = ScanDataset(scan, least)[0].depth.as_tensor().numpy()[..., 0]
    np.testing.assert_array_equal(depth > 0, (scan.depth(0) > 0) & (confidence >= least))


def test_pictures_follow_the_transform() -> None:
    camera = Intrinsics.centred(160.0, 200, 150)
    transform = ImageTransform.identity((200, 150)).resized(80, 60).cropped(7, 5, 60, 40)
    small = transform.intrinsics(camera)
    image = room_colours(room_points(camera, room_pose(0)))
    seen = color_on_depth_grid(image, transform)
    true = room_colours(room_points(small, room_pose(0)))
    assert np.abs(seen.astype(int) - true).mean() < 1
    same = color_on_depth_grid(image, ImageTransform.identity((200, 150)))
    np.testing.assert_array_equal(same, image)


class PerfectFrontEnd:
    """Knows the room."""

    def stream(self, source: str) -> object:
        size = (160, 120)
        camera, transform = Intrinsics.centred(120.0, *size), ImageTransform.identity(size)
        for index in range(4):
            image = room_colours(room_points(camera, room_pose(index)))
            yield room_estimate(Frame(index, f"{index}.png", 0.0, image), camera, transform)


def test_the_example_fuses_what_the_front_end_says() -> None:
    mesh = fuse(PerfectFrontEnd(), "room")  # type: ignore[arg-type]
    vertices = mesh.vertex.positions.numpy().astype(np.float64)
    assert len(vertices) > 1000
    assert np.quantile(distance_to_walls(vertices), 0.95) < VOXEL
    assert np.abs(255 * mesh.vertex.colors.numpy() - room_colours(vertices)).mean() < 5
