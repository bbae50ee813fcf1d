import numpy as np
import pytest
from safetensors.numpy import load, save

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.shared_camera import (
    GivenCamera,
    PerFrameCamera,
    SharedCamera,
    choose_camera,
)

TRANSFORM = Preprocessor(64).transform((640, 427))
ONES = np.ones(TRANSFORM.target_size[::-1])


def self_view(focal: float, noise: float = 0.0, seed: int = 0) -> FloatArray:
    """Points (h, w, 3) that a camera of this focal length in original pixels sees."""
    camera = TRANSFORM.intrinsics(Intrinsics.centred(focal, *TRANSFORM.source_size))
    rng = np.random.default_rng(seed)
    points = camera.unproject_depth(rng.uniform(1, 9, (camera.height, camera.width)))
    points[..., :2] += points[..., 2:] * rng.normal(0, noise, points[..., :2].shape)
    return points


def test_the_focal_length_is_shared_and_square_in_original_pixels() -> None:
    camera = SharedCamera()
    for seed in range(20):
        camera.observe(self_view(500, noise=0.05, seed=seed), ONES, TRANSFORM)
    original = camera.original_intrinsics(TRANSFORM)
    assert original.fx == original.fy == pytest.approx(500, rel=0.01)
    assert (original.cx, original.cy) == (320, 213.5)
    assert (original.width, original.height) == (640, 427)
    assert camera.origin == "estimated"


def test_network_pixels_are_not_quite_square() -> None:
    """427 rows become 43: the network's fx and fy differ, the physical camera's do not."""
    camera = SharedCamera()
    camera.observe(self_view(500), ONES, TRANSFORM)
    network = camera.intrinsics(TRANSFORM)
    assert (network.width, network.height) == (64, 32)
    assert network.fy / network.fx == pytest.approx((43 / 427) / (64 / 640))
    assert network.fx == pytest.approx(50, rel=2e-3)
    back = TRANSFORM.inverse.intrinsics(network)
    original = camera.original_intrinsics(TRANSFORM)
    for name in ("fx", "fy", "cx", "cy"):
        assert getattr(back, name) == pytest.approx(getattr(original, name))


def test_a_frame_speaks_for_itself() -> None:
    camera = SharedCamera()
    focals = [400.0, 500.0, 500.0, 500.0, 900.0]
    own = [camera.observe(self_view(focal), ONES, TRANSFORM) for focal in focals]
    for intrinsics, focal in zip(own, focals, strict=True):
        assert intrinsics.fx == pytest.approx(focal / 10, rel=2e-3)
    assert camera.intrinsics(TRANSFORM).fx == pytest.approx(50, rel=2e-3)


def test_a_frame_that_says_nothing_follows_the_others() -> None:
    camera = SharedCamera()
    nothing = np.full((*ONES.shape, 3), np.nan)
    assert camera.observe(nothing, ONES, TRANSFORM).fx == pytest.approx(1.2 * 64)
    camera.observe(self_view(500), ONES, TRANSFORM)
    assert camera.observe(self_view(900), 0 * ONES, TRANSFORM).fx == pytest.approx(50, rel=2e-3)


def test_saving_and_loading_changes_nothing() -> None:
    straight, resumed = SharedCamera(), SharedCamera()
    for seed in range(6):
        points = self_view(500, noise=0.3, seed=seed)
        straight.observe(points, ONES, TRANSFORM)
        resumed.observe(points, ONES, TRANSFORM)
        resumed = SharedCamera.from_tensors(load(save(resumed.to_tensors())))
    assert resumed.intrinsics(TRANSFORM) == straight.intrinsics(TRANSFORM)


def test_memory_does_not_grow() -> None:
    camera = SharedCamera()
    camera.observe(self_view(500), ONES, TRANSFORM)
    before = save(camera.to_tensors())
    for seed in range(10):
        camera.observe(self_view(500, seed=seed), ONES, TRANSFORM)
    assert len(save(camera.to_tensors())) == len(before)


def test_the_mode_survives_loading() -> None:
    camera = PerFrameCamera.from_tensors(PerFrameCamera().to_tensors())
    assert (camera.origin, camera.mode) == ("estimated", "per_frame")


def test_a_camera_is_chosen_by_mode_and_intrinsics() -> None:
    cameras = [
        choose_camera("shared", None),
        choose_camera("per_frame", None),
        choose_camera("shared", "500"),
        choose_camera("shared", (500.0,)),
    ]
    assert [(camera.origin, camera.mode) for camera in cameras] == [
        ("estimated", "shared"),
        ("estimated", "per_frame"),
        ("given", "shared"),
        ("given", "shared"),
    ]


def test_given_intrinsics_are_kept() -> None:
    camera = GivenCamera.parse("500, 510,300,200.5")
    assert camera.original_intrinsics(TRANSFORM) == Intrinsics(500, 510, 300, 200.5, 640, 427)
    network = camera.observe(self_view(900), ONES, TRANSFORM)
    assert network == camera.intrinsics(TRANSFORM)
    assert network.fx == pytest.approx(50)
    assert TRANSFORM.inverse.intrinsics(network).cy == pytest.approx(200.5)
    assert camera.origin == "given"
    assert camera.to_tensors() == {}


def test_a_given_focal_length_is_centred() -> None:
    camera = GivenCamera.parse("500")
    assert camera.original_intrinsics(TRANSFORM) == Intrinsics.centred(500, 640, 427)


@pytest.mark.parametrize("text", ["", "f", "500,500", "1,2,3,4,5", "0", "-5", "500,0,3,4", "nan"])
def test_intrinsics_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="intrinsics"):
        GivenCamera.parse(text)


def test_a_principal_point_outside_the_picture_is_refused() -> None:
    camera = GivenCamera((500, 500, 900, 200))
    with pytest.raises(ConfigError, match="principal point 900,200 lies outside the 640x427"):
        camera.intrinsics(TRANSFORM)


def test_any_picture_size_leads_to_the_same_votes() -> None:
    """The estimator keeps angles, not pixels, so it can be loaded before a frame is seen."""
    small = ImageTransform.identity((64, 48))
    camera = SharedCamera()
    points = Intrinsics.centred(70, 64, 48).unproject_depth(np.ones((48, 64)))
    camera.observe(points, np.ones((48, 64)), small)
    large = ImageTransform.identity((640, 480))
    assert camera.intrinsics(large).fx == pytest.approx(700, rel=2e-3)
