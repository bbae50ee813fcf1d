import json

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.refine.undistort import Undistortion

LENS = Intrinsics(500.0, 500.0, 322.0, 236.0, 640, 480)


@st.composite
def undistortions(draw):
    width, height = draw(st.integers(40, 700)), draw(st.integers(40, 700))
    focal = draw(st.floats(0.6, 3)) * max(width, height)
    cx, cy = (draw(st.floats(0.45, 0.55)) * side for side in (width, height))
    lens = Intrinsics(focal, focal, cx, cy, width, height)
    corner = np.linalg.norm(lens.unproject(np.zeros(2), np.ones(()))[:2])
    return Undistortion.without_blanks(lens, draw(st.floats(-0.08, 0.2)) / corner**2)


def pixels_of(camera, count=50):
    return np.random.default_rng(0).uniform(0, [camera.width, camera.height], (count, 2))


@given(undistortions())
def test_the_lens_is_the_simple_radial_camera_of_colmap(way):
    lens = way.lens
    colmap = pycolmap.Camera(
        model="SIMPLE_RADIAL",
        width=lens.width,
        height=lens.height,
        params=[lens.fx, lens.cx, lens.cy, way.radial],
    )
    pixels = pixels_of(way.camera)
    rays = way.camera.unproject(pixels, np.ones(len(pixels)))
    assert np.allclose(way.bent(pixels), colmap.img_from_cam(rays), atol=1e-8)


@given(undistortions())
def test_pixels_go_there_and_back(way):
    pixels = pixels_of(way.lens)
    assert np.allclose(way.bent(way.pixels(pixels)), pixels, atol=1e-6)


@given(undistortions())
def test_no_pixel_is_blank_and_none_could_be_wider(way):
    camera = way.camera
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * [camera.width, camera.height]
    grid = np.concatenate([camera.pixel_centres().reshape(-1, 2), corners])
    source = way.bent(grid)
    slack = 1e-2  # the border is sampled
    assert (source > -slack).all()
    assert (source < [camera.width + slack, camera.height + slack]).all()
    edge = np.concatenate([grid[:, :1].T, source.T])  # some border touches the lens' border
    gaps = [
        edge[1].min(),
        edge[2].min(),
        camera.width - edge[1].max(),
        camera.height - edge[2].max(),
    ]
    assert min(gaps) < 0.5


def test_without_distortion_nothing_changes():
    way = Undistortion.without_blanks(LENS, 0.0)
    assert way.camera == LENS
    assert way.displacement == 0
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    assert np.array_equal(way.picture(picture), picture)
    assert np.array_equal(way.map(picture[..., 0].astype(np.float32)), picture[..., 0])


@pytest.mark.parametrize("radial", [-0.15, 0.1])
def test_pictures_and_maps_show_what_the_pinhole_would_see(radial):
    """A ramp of brightness painted in rays, seen through the lens."""
    way = Undistortion.without_blanks(LENS, radial)
    true_rays = way.camera.unproject(way.camera.pixel_centres(), np.ones((480, 640)))
    unbent = Undistortion(LENS, radial, LENS)
    seen = unbent.pixels(LENS.pixel_centres().reshape(-1, 2))
    seen_rays = LENS.unproject(seen, np.ones(len(seen))).reshape(480, 640, 3)
    paint = 120 + 150 * seen_rays[..., 0]
    made = way.map(paint.astype(np.float32))
    assert np.abs(made - (120 + 150 * true_rays[..., 0])).max() < 0.75 * 150 / LENS.fx
    picture = way.picture(np.rint(paint).astype(np.uint8))
    assert np.abs(picture[5:-5, 5:-5] - (120 + 150 * true_rays[5:-5, 5:-5, 0])).max() < 1.01


@given(st.floats(-0.15, 0.15), st.integers(20, 300), st.integers(20, 300))
def test_it_goes_through_resizing_and_cropping(radial, width, height):
    way = Undistortion.without_blanks(LENS, radial)
    transform = ImageTransform.identity((640, 480)).resized(width, height).cropped(3, 2, 15, 16)
    small = way.through(transform)
    pixels = pixels_of(way.camera)
    assert np.allclose(small.bent(transform.pixels(pixels)), transform.pixels(way.bent(pixels)))
    assert np.allclose(
        small.pixels(transform.pixels(way.bent(pixels))), transform.pixels(pixels), atol=1e-6
    )


def test_what_maps_do_not_show_is_none():
    way = Undistortion.without_blanks(LENS, -0.1)
    cut = way.through(ImageTransform.identity((640, 480)).cropped(100, 0, 200, 480))
    shifted = Undistortion(
        cut.lens,
        cut.radial,
        way.through(ImageTransform.identity((640, 480)).cropped(0, 0, 200, 480)).camera,
    )
    made = shifted.map(np.ones((480, 200), np.float32))
    assert (made[:, 0] == 0).all()
    assert (made[:, -1] == 1).all()


def test_the_displacement_is_that_of_the_farthest_corner():
    way = Undistortion.without_blanks(LENS, -0.1)
    corner = np.array([0.0, 480.0])
    radius = np.linalg.norm((corner - [322, 236]) / 500)
    expected = 0.1 * radius**3 * 500
    assert way.displacement == pytest.approx(expected)


def test_a_record_keeps_it_exactly():
    way = Undistortion.without_blanks(LENS, -0.123456789)
    assert Undistortion.from_json(json.loads(json.dumps(way.to_json()))) == way


def test_lenses_that_fold_the_picture_are_refused():
    with pytest.raises(ValueError, match="without rays"):
        Undistortion.without_blanks(LENS, -0.6)
