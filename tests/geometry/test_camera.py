import numpy as np
import pycolmap
import pytest
from hypothesis import given

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from tests.geometry.strategies import intrinsics, visible_points


@given(camera=intrinsics(), points=visible_points())
def test_unprojecting_a_projection_gives_the_point_back(
    camera: Intrinsics, points: FloatArray
) -> None:
    pixels = camera.project(points)
    np.testing.assert_allclose(camera.unproject(pixels, points[:, 2]), points, atol=1e-9)


@given(camera=intrinsics(), points=visible_points())
def test_projection_is_colmaps(camera: Intrinsics, points: FloatArray) -> None:
    colmap = pycolmap.Camera(
        model="PINHOLE",
        width=camera.width,
        height=camera.height,
        params=[camera.fx, camera.fy, camera.cx, camera.cy],
    )
    np.testing.assert_allclose(camera.project(points), colmap.img_from_cam(points), atol=1e-9)


@given(camera=intrinsics(), points=visible_points())
def test_matrix_projects_homogeneously(camera: Intrinsics, points: FloatArray) -> None:
    homogeneous = points @ camera.matrix.T
    expected = homogeneous[:, :2] / homogeneous[:, 2:]
    np.testing.assert_allclose(camera.project(points), expected, rtol=1e-9, atol=1e-9)


@given(camera=intrinsics())
def test_a_depth_map_projects_to_its_own_pixels(camera: Intrinsics) -> None:
    depth = np.linspace(1, 9, camera.width * camera.height).reshape(camera.height, camera.width)
    points = camera.unproject_depth(depth)
    np.testing.assert_array_equal(points[..., 2], depth)
    np.testing.assert_allclose(camera.project(points), camera.pixel_centres(), atol=1e-9)
    assert camera.contains(camera.pixel_centres()).all()


def test_pixel_centres_lie_at_half_integers() -> None:
    centres = Intrinsics.centred(1.0, 3, 2).pixel_centres()
    assert centres.shape == (2, 3, 2)
    np.testing.assert_array_equal(centres[1, 2], [2.5, 1.5])


def test_the_middle_ray_of_a_centred_camera_is_the_optical_axis() -> None:
    camera = Intrinsics.centred(50.0, 64, 48)
    np.testing.assert_array_equal(camera.project(np.array([0.0, 0.0, 2.0])), [32.0, 24.0])


def test_contains_is_half_open() -> None:
    camera = Intrinsics.centred(1.0, 4, 3)
    pixels = np.array([[0.0, 0.0], [3.999, 2.999], [4.0, 1.0], [1.0, 3.0], [-0.001, 1.0]])
    np.testing.assert_array_equal(camera.contains(pixels), [True, True, False, False, False])


def test_a_depth_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="depth map is 5x2, the camera's image 4x3"):
        Intrinsics.centred(1.0, 4, 3).unproject_depth(np.ones((2, 5)))
