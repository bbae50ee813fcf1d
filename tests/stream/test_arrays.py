from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.stream.arrays import to_rgb8
from mem3r_plugin.stream.source import open_source
from tests.stream.pictures import picture


def test_uint8_rgb_is_taken_as_it_is() -> None:
    array = picture()
    assert to_rgb8(array) is array


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_between_0_and_1_are_scaled(dtype: type) -> None:
    # Half precision has 11 bits: enough to tell 256 levels apart.
    np.testing.assert_array_equal(to_rgb8((picture() / 255).astype(dtype)), picture())


def test_grey_becomes_rgb() -> None:
    grey = picture()[..., 0]
    np.testing.assert_array_equal(to_rgb8(grey), np.dstack([grey] * 3))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (picture().astype(np.uint16), "type uint16: expected uint8"),
        (picture().astype(np.float32), r"outside \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), r"outside \[0, 1\]"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), r"shape \(3, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    ],
)
def test_anything_else_is_refused_by_name(array: NDArray[Any], message: str) -> None:
    with pytest.raises(SourceError, match=f"frame_000000.png has .*{message}|{message}"):
        list(open_source([array]).frames())


def test_a_list_is_restartable_and_knows_its_length() -> None:
    source = open_source([picture()] * 7, stride=2)
    assert source.restartable
    assert source.expected_frames == 4
    assert [f.position for f in source.frames(2)] == [4, 6]
    assert source.describe() == {"kind": "arrays"}


def test_a_generator_is_read_once() -> None:
    source = open_source(picture(seed=i) for i in range(3))
    assert not source.restartable
    assert source.expected_frames is None
    with pytest.raises(SourceError, match="cannot be read again, so it cannot be resumed"):
        list(source.frames(1))
    assert len(list(source.frames())) == 3
