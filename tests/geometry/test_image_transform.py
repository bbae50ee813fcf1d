import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from tests.geometry.strategies import intrinsics, sides, transforms, visible_points

pixels = arrays(np.float64, (7, 2), elements=st.floats(-50, 50))


def numbered(width: int, height: int) -> NDArray[np.int64]:
    """A picture whose every pixel has a value of its own."""
    return np.arange(1, width * height + 1).reshape(height, width)


@given(record=transforms(), pixels=pixels)
def test_inverse_undoes_it(record: ImageTransform, pixels: FloatArray) -> None:
    there = record.pixels(pixels)
    tolerance = 1e-9 * (1 + np.abs(record.matrix).max() * np.abs(record.inverse.matrix).max())
    np.testing.assert_allclose(record.inverse.pixels(there), pixels, atol=100 * tolerance)
    assert record.inverse.source_size == record.target_size
    assert record.inverse.target_size == record.source_size


@given(first=transforms(), data=st.data(), pixels=pixels)
def test_steps_compose(first: ImageTransform, data: st.DataObject, pixels: FloatArray) -> None:
    second = data.draw(transforms(ImageTransform.identity(first.target_size)))
    both = first.then(np.array(second.matrix), second.target_size)
    expected = second.pixels(first.pixels(pixels))
    np.testing.assert_allclose(both.pixels(pixels), expected, rtol=1e-9, atol=1e-6)
    assert both.target_size == second.target_size


@given(record=transforms())
def test_json_keeps_every_bit(record: ImageTransform) -> None:
    assert ImageTransform.from_json(json.loads(json.dumps(record.to_json()))) == record


@given(width=sides, height=sides, turns=st.integers(-5, 5))
def test_rotated_is_rot90(width: int, height: int, turns: int) -> None:
    image = numbered(width, height)
    record = ImageTransform.identity((width, height)).rotated(turns)
    np.testing.assert_array_equal(record.sample(image), np.rot90(image, -turns))


@given(width=sides, height=sides)
def test_mirrored_is_a_flip(width: int, height: int) -> None:
    image = numbered(width, height)
    record = ImageTransform.identity((width, height)).mirrored()
    np.testing.assert_array_equal(record.sample(image), image[:, ::-1])


@given(width=sides, height=sides, data=st.data())
def test_cropped_is_a_slice(width: int, height: int, data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))
    image = numbered(width, height)
    record = ImageTransform.identity((width, height)).cropped(left, top, *box)
    expected = image[top : top + box[1], left : left + box[0]]
    np.testing.assert_array_equal(record.sample(image), expected)


@given(width=sides, height=sides, sides=st.tuples(*[st.integers(0, 5)] * 4))
def test_padded_is_pad(width: int, height: int, sides: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = sides
    image = numbered(width, height)
    record = ImageTransform.identity((width, height)).padded(left, top, right, bottom)
    expected = np.pad(image, ((top, bottom), (left, right)), constant_values=-1)
    np.testing.assert_array_equal(record.sample(image, outside=-1), expected)


@given(width=sides, height=sides, factor=st.integers(1, 5))
def test_resized_enlarges_every_pixel_in_place(width: int, height: int, factor: int) -> None:
    image = numbered(width, height)
    record = ImageTransform.identity((width, height)).resized(width * factor, height * factor)
    expected = image.repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(record.sample(image), expected)
    # Back in the small picture every pixel finds itself: the two grids lie centred on each other.
    if factor % 2:
        np.testing.assert_array_equal(record.inverse.sample(expected), image)


@given(size=st.tuples(sides, sides), target=st.tuples(sides, sides))
def test_resized_keeps_the_edges(size: tuple[int, int], target: tuple[int, int]) -> None:
    record = ImageTransform.identity(size).resized(*target)
    corners = record.pixels(np.array([[0.0, 0.0], size]))
    np.testing.assert_allclose(corners, [[0.0, 0.0], target], atol=1e-12)


@given(data=st.data(), points=visible_points())
def test_projecting_and_transforming_commute(data: st.DataObject, points: FloatArray) -> None:
    """Without quarter turns and mirrors the camera keeps its axes."""
    camera = data.draw(intrinsics())
    record = ImageTransform.identity((camera.width, camera.height))
    record = record.resized(data.draw(sides), data.draw(sides))
    record = record.cropped(*(data.draw(st.integers(1, 9)) for _ in range(4)))
    transformed = record.intrinsics(camera)
    assert (transformed.width, transformed.height) == record.target_size
    expected = record.pixels(camera.project(points))
    np.testing.assert_allclose(transformed.project(points), expected, rtol=1e-9, atol=1e-8)


@given(data=st.data(), points=visible_points())
def test_the_camera_turns_with_its_picture(data: st.DataObject, points: FloatArray) -> None:
    """A picture turned clockwise is what a camera sees whose x axis was the old camera's -y."""
    camera = data.draw(intrinsics())
    turns = data.draw(st.integers(0, 3))
    record = ImageTransform.identity((camera.width, camera.height)).rotated(turns)
    clockwise = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    seen = points @ np.linalg.matrix_power(clockwise, turns).T
    expected = record.pixels(camera.project(points))
    actual = record.intrinsics(camera).project(seen)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-8)


@given(data=st.data(), points=visible_points())
def test_a_mirrored_picture_shows_the_mirrored_world(
    data: st.DataObject, points: FloatArray
) -> None:
    camera = data.draw(intrinsics())
    record = ImageTransform.identity((camera.width, camera.height)).mirrored()
    expected = record.pixels(camera.project(points))
    actual = record.intrinsics(camera).project(points * (-1.0, 1.0, 1.0))
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-8)


@given(data=st.data())
def test_intrinsics_come_back(data: st.DataObject) -> None:
    record = data.draw(transforms())
    camera = data.draw(intrinsics(*record.source_size))
    back = record.inverse.intrinsics(record.intrinsics(camera))
    for name in ("fx", "fy", "cx", "cy"):
        assert getattr(back, name) == pytest.approx(getattr(camera, name), rel=1e-6, abs=1e-6)


def test_intrinsics_of_another_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="intrinsics are for 4x3, this transform starts from 8x6"):
        ImageTransform.identity((8, 6)).intrinsics(Intrinsics.centred(1.0, 4, 3))


def test_sample_takes_channels_and_another_type() -> None:
    image = np.dstack([numbered(3, 2), -numbered(3, 2)]).astype(np.float32)
    sampled = ImageTransform.identity((3, 2)).rotated(2).sample(image, dtype=np.int32)
    assert sampled.dtype == np.int32
    np.testing.assert_array_equal(sampled, image[::-1, ::-1])
