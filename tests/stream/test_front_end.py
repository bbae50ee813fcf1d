"""The front end gives sound estimates, forgets nothing across saving, and survives a bad network."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from mem3r_plugin.errors import ConfigError, FrameSkipped, Mem3RError, SourceError
from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.stream.front_end import MAX_REJECTED, chosen_interval, pick_device
from mem3r_plugin.stream.preprocess import to_network_input
from mem3r_plugin.stream.source import SkippedFrame, open_source
from tests.stream.pictures import write_pictures
from tests.stream.small_model import pictures
from tests.stream.spoilt import at_calls, infinite_state, nan_points, nan_pose, showing, spoil


def assert_same(first, second):
    np.testing.assert_array_equal(first.camera_to_world, second.camera_to_world)
    np.testing.assert_array_equal(first.depth, second.depth)
    np.testing.assert_array_equal(first.confidence, second.confidence)
    assert first.intrinsics == second.intrinsics
    assert first.focal == second.focal


def assert_close(first, second):
    """The same but for the last bits: frames that pass together are summed up in another order."""
    np.testing.assert_allclose(first.camera_to_world, second.camera_to_world, atol=1e-5)
    np.testing.assert_allclose(first.depth, second.depth, rtol=2e-6)
    np.testing.assert_allclose(first.confidence, second.confidence, rtol=1e-5)
    assert first.focal == pytest.approx(second.focal, rel=1e-5)


@pytest.mark.parametrize("update", ["plain", "ttt3r", "ttsa3r", "memix", "filt3r"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_estimates_are_sound(small_model, update, precision):
    front_end = small_model.front_end(update=update, precision=precision)
    estimates = list(front_end.stream(list(pictures(6, 100, 66))))
    assert [e.frame.index for e in estimates] == list(range(6))
    np.testing.assert_array_equal(estimates[0].camera_to_world, np.eye(4))
    for estimate in estimates:
        pose = estimate.camera_to_world
        assert pose.dtype == np.float64
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=4e-15)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        np.testing.assert_array_equal(pose[3], [0, 0, 0, 1])
        assert estimate.depth.shape == estimate.confidence.shape == (32, 64)
        assert estimate.depth.dtype == estimate.confidence.dtype == np.float32
        assert np.isfinite(estimate.depth).all()
        assert (estimate.depth >= 0).all()
        assert estimate.depth.any()
        assert (estimate.confidence >= 1).all()
        assert (estimate.confidence[estimate.depth == 0] == 1).all()
        assert (estimate.intrinsics.width, estimate.intrinsics.height) == (64, 32)
        assert estimate.original_intrinsics.fx == pytest.approx(estimate.original_intrinsics.fy)
        assert estimate.original_intrinsics.cx == pytest.approx(50)
        assert estimate.feature.dtype == np.float32
        assert np.linalg.norm(estimate.feature) == pytest.approx(1, rel=1e-5)
    assert not np.allclose(estimates[1].camera_to_world, estimates[0].camera_to_world)


def test_stream_and_step_agree(small_model):
    streamed = small_model.front_end().stream(list(pictures(5)))
    front_end = small_model.front_end()
    for image, expected in zip(pictures(5), streamed, strict=True):
        assert_close(front_end.step(image), expected)


def test_step_takes_grey_and_floating_point_pictures(small_model):
    image = next(pictures(1))[..., 0]
    grey = small_model.front_end().step(image)
    assert_same(small_model.front_end().step(image / 255.0), grey)
    with pytest.raises(SourceError, match="expected"):
        small_model.front_end().step(np.zeros((48, 64, 4), np.uint8))


@pytest.mark.parametrize(
    ("update", "camera"),
    [
        ("plain", "shared"),
        ("ttt3r", "shared"),
        ("ttsa3r", "shared"),
        ("memix", "shared"),
        ("filt3r", "shared"),
        ("ttt3r", "per_frame"),
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 3, 4])
def test_saved_state_continues_exactly(small_model, update, camera, cut):
    options = {"update": update, "camera": camera, "reset_interval": 3}
    front_end = small_model.front_end(**options)
    images = list(pictures(8))
    for image in images[:cut]:
        front_end.step(image)
    saved = front_end.save_state()
    resumed = small_model.front_end(**options)
    resumed.step(images[-1])  # whatever it knew is replaced
    resumed.load_state(saved)
    for image in images[cut:]:
        assert_same(resumed.step(image), front_end.step(image))


def test_saved_state_is_a_copy(small_model):
    front_end = small_model.front_end()
    images = list(pictures(3))
    front_end.step(images[0])
    saved = front_end.save_state()
    before = {name: tensor.clone() for name, tensor in saved.items()}
    front_end.step(images[1])
    assert all(torch.equal(saved[name], before[name]) for name in before)


def test_given_camera_is_kept(small_model):
    front_end = small_model.front_end(intrinsics="80,81,49,34")
    estimate = front_end.step(next(pictures(1, 100, 66)))
    camera = estimate.original_intrinsics
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((80, 81, 49, 34))
    assert front_end.camera_origin == "given"


def test_each_frame_keeps_its_own_camera(small_model):
    images = list(pictures(5, 100, 66))
    shared = list(small_model.front_end().stream(images))
    own = list(small_model.front_end(camera="per_frame").stream(images))
    assert len({estimate.focal for estimate in own}) == 5
    for estimate, other in zip(own, shared, strict=True):
        assert estimate.intrinsics.fx == estimate.focal == other.focal
        camera = estimate.original_intrinsics
        assert camera.fx == pytest.approx(camera.fy)
        assert (camera.cx, camera.cy) == pytest.approx((50, 33))
        np.testing.assert_array_equal(estimate.depth, other.depth)
        np.testing.assert_array_equal(estimate.camera_to_world, other.camera_to_world)
    assert own[0].intrinsics == shared[0].intrinsics  # one frame is all there is to share
    assert all(a.intrinsics != b.intrinsics for a, b in zip(own[1:], shared[1:], strict=True))


def test_masked_pixels_have_no_depth(small_model, tmp_path):
    source = write_pictures(tmp_path / "images", ["a.png", "b.png"], 64, 48)
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.full((48, 64), 255, np.uint8)
    mask[:, :32] = 0
    Image.fromarray(mask).save(masks / "a.png")
    plain = list(small_model.front_end().stream(source))
    first, second = small_model.front_end(masks=masks).stream(source)
    assert not first.depth[:, :32].any()
    assert (first.confidence[:, :32] == 1).all()
    np.testing.assert_array_equal(first.depth[:, 32:], plain[0].depth[:, 32:])
    np.testing.assert_array_equal(second.depth, plain[1].depth)  # no mask of its own


# -- resets --------------------------------------------------------------------------------------


def test_reset_starts_the_state_anew_with_the_same_frame(small_model):
    """Each chunk is what a fresh front end makes of it, moved to where the chunk before it ended."""
    images = list(pictures(9))
    chained = list(small_model.front_end(reset_interval=3).stream(images))
    start, base = 0, np.eye(4)
    for boundary in (2, 5, 8):  # frames after which the state is reset
        fresh = small_model.front_end()
        chunk = [fresh.step(image) for image in images[start : boundary + 1]]
        for offset, estimate in enumerate(chunk):
            got = chained[start + offset]
            if start + offset == start and start > 0:
                continue  # fed again only to anchor the chunk; its first prediction stands
            np.testing.assert_allclose(
                got.camera_to_world, base @ estimate.camera_to_world, atol=1e-5
            )
            np.testing.assert_allclose(got.depth, estimate.depth, rtol=2e-6)
        base = base @ chunk[-1].camera_to_world
        start = boundary


@pytest.mark.parametrize(
    ("wanted", "of_model", "chosen"), [(None, None, None), (None, 7, 7), (0, 7, None), (3, 7, 3)]
)
def test_the_model_says_when_to_reset_unless_told_otherwise(wanted, of_model, chosen):
    assert chosen_interval(wanted, NetworkConfig(reset_interval=of_model)) == chosen


def test_reset_interval_of_one_chains_every_frame(small_model):
    estimates = list(small_model.front_end(reset_interval=1).stream(list(pictures(4))))
    assert len(estimates) == 4
    images = list(pictures(4))
    for index, (first, second) in enumerate(pairwise(estimates)):
        fresh = small_model.front_end()
        fresh.step(images[index])
        relative = fresh.step(images[index + 1]).camera_to_world
        moved = invert_pose(first.camera_to_world) @ second.camera_to_world
        np.testing.assert_allclose(moved, relative, atol=1e-5)


# -- a network that gives NaN --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"output": nan_pose}, {"output": nan_points}, {"state": infinite_state}]
)
def test_frame_with_nan_is_skipped_and_leaves_no_trace(small_model, monkeypatch, change):
    images = list(pictures(5))
    estimates_without = list(small_model.front_end().stream(images[:2] + images[3:]))
    spoil(monkeypatch, showing(to_network_input(images[2])), **change)
    skipped: list[SkippedFrame] = []
    estimates = list(small_model.front_end().stream(images, on_skip=skipped.append))
    assert [e.frame.index for e in estimates] == [0, 1, 3, 4]
    assert [(s.position, s.name) for s in skipped] == [(2, "frame_000002.png")]
    assert "NaN" in skipped[0].reason
    for estimate, without in zip(estimates, estimates_without, strict=True):
        assert_close(estimate, without)


def test_single_pixels_that_are_not_finite_lose_their_depth_only(small_model, monkeypatch):
    def nan_corner(output, row):
        output.points_self[row, 0, 0] = torch.nan
        output.confidence_self[row, 1, 1] = torch.inf

    image = next(pictures(1))
    clean = small_model.front_end().step(image)
    spoil(monkeypatch, at_calls(lambda call: True), nan_corner)
    estimate = small_model.front_end().step(image)
    assert estimate.depth[0, 0] == estimate.depth[1, 1] == 0
    assert estimate.confidence[0, 0] == estimate.confidence[1, 1] == 1
    np.testing.assert_array_equal(estimate.depth[2:], clean.depth[2:])


def test_reset_that_fails_is_tried_again(small_model, monkeypatch):
    images = list(pictures(5))
    late = small_model.front_end(reset_interval=3)
    expected = [late.step(image) for image in images[:4]]
    # Passages: frame 0, frame 1, its repeat.
    spoil(monkeypatch, at_calls(lambda call: call == 2), nan_pose)
    front_end = small_model.front_end(reset_interval=2)
    estimates = [front_end.step(image) for image in images]
    for estimate, other in zip(estimates[:4], expected, strict=True):
        assert_same(estimate, other)


def test_lasting_nan_stops_the_stream(small_model, monkeypatch):
    front_end = small_model.front_end()
    spoil(monkeypatch, at_calls(lambda call: call >= 1), nan_pose)
    images = pictures(MAX_REJECTED + 5)
    front_end.step(next(images))
    for _ in range(MAX_REJECTED - 1):
        with pytest.raises(FrameSkipped):
            front_end.step(next(images))
    with pytest.raises(Mem3RError, match=f"{MAX_REJECTED} frames in a row") as failure:
        front_end.step(next(images))
    assert not isinstance(failure.value, FrameSkipped)


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "nonsense"}, "unknown update rule 'nonsense'.*ttt3r"),
        ({"size": 60}, "size is 60"),
        ({"reset_interval": -1}, "reset_interval is -1"),
        ({"intrinsics": "a,b"}, "intrinsics"),
        ({"intrinsics": "80", "camera": "per_frame"}, "intrinsics 80 fix one camera.*per_frame"),
    ],
)
def test_impossible_settings_are_refused(small_model, options, message):
    with pytest.raises(ConfigError, match=message):
        small_model.front_end(**options)


def test_unusable_device_is_refused():
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device '{name}' cannot be used"):
            pick_device(name)


def test_frames_that_are_skipped_by_the_source_are_told(small_model, tmp_path):
    source = write_pictures(tmp_path, ["1.png", "2.png", "3.png"], 64, 48)
    (source / "2.png").write_bytes(b"not a picture")
    skipped: list[SkippedFrame] = []
    estimates = list(small_model.front_end().stream(open_source(source), on_skip=skipped.append))
    assert [e.frame.name for e in estimates] == ["1.png", "3.png"]
    assert [s.name for s in skipped] == ["2.png"]
