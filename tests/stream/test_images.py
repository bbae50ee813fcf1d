from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mem3r_plugin.errors import FrameSkipped, SourceError
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.images import is_stored_upright, natural_key, read_image
from mem3r_plugin.stream.source import SkippedFrame, open_source
from tests.stream.pictures import picture, write_pictures

STORED_AS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
"""How a camera stores an upright picture under each EXIF orientation."""

FINE: dict[str, Any] = {"quality": 100, "subsampling": 0}
"""JPEG options that keep every colour within a few levels."""


def names(source: Any) -> list[str]:
    return [item.name for item in source.frames()]


def test_a_folder_comes_in_natural_order(tmp_path: Path) -> None:
    order = ["2.png", "10.png", "a1b9.png", "a1b10.png", "a01c.png", "IMG_100.png"]
    write_pictures(tmp_path, sorted(order))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._2.png").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "sub.png").mkdir()
    source = open_source(tmp_path)
    assert names(source) == order
    assert source.expected_frames == 6
    assert source.describe() == {"kind": "images", "path": str(tmp_path)}


@given(numbers=st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_in_names_sort_as_numbers(numbers: list[int]) -> None:
    paths = [Path(f"/walk/IMG{number}_edit.jpg") for number in numbers]
    expected = [Path(f"/walk/IMG{number}_edit.jpg") for number in sorted(numbers)]
    assert sorted(paths, key=natural_key) == expected


def test_a_glob_takes_what_it_names(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a_1.jpg", "a_10.jpg", "a_9.JPG", "b_1.jpg", "a_3.png"])
    assert names(open_source(tmp_path / "a_*.[jJ]*")) == ["a_1.jpg", "a_9.JPG", "a_10.jpg"]


def test_equal_names_in_two_folders_stay_apart(tmp_path: Path) -> None:
    write_pictures(tmp_path / "left", ["1.png", "2.png"])
    write_pictures(tmp_path / "right", ["1.png"])
    found = names(open_source(f"{tmp_path}/**/*.png"))
    assert len(set(found)) == 3
    assert [name.split("_")[-2:] for name in found] == [
        ["left", "1.png"],
        ["left", "2.png"],
        ["right", "1.png"],
    ]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "jpg"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    options: dict[str, Any] = {"jpg": FINE, "webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(picture()).save(path, **options)
    np.testing.assert_allclose(
        read_image(path), picture().astype(float), atol=6 if suffix == "jpg" else 0
    )


@pytest.mark.parametrize("orientation", STORED_AS)
def test_exif_rotation_is_undone(tmp_path: Path, orientation: int) -> None:
    stored: NDArray[np.uint8] = np.ascontiguousarray(STORED_AS[orientation](picture()))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(stored).save(path, exif=exif, **FINE)
    np.testing.assert_allclose(read_image(path), picture().astype(float), atol=6)
    assert is_stored_upright(path) == (orientation == 1)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_rotation_is_undone_in_every_format(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / f"a.{suffix}"
    lossless: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.rot90(picture(), 1).copy()).save(path, exif=exif, **lossless)
    np.testing.assert_array_equal(read_image(path), picture())
    assert not is_stored_upright(path)


def test_sixteen_bit_grey_keeps_its_upper_bits(tmp_path: Path) -> None:
    deep = (picture()[..., 0].astype(np.uint16) << 8) + 77
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture()[..., [0, 0, 0]])


def test_grey_alpha_and_palette_become_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(picture())
    rgb.convert("L").save(tmp_path / "grey.png")
    with_alpha = np.dstack([picture(), np.zeros((24, 32), np.uint8)])
    Image.fromarray(with_alpha).save(tmp_path / "alpha.png")
    palette = rgb.quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.png"), np.dstack([np.asarray(rgb.convert("L"))] * 3)
    )
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), picture())
    np.testing.assert_array_equal(
        read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB"))
    )


def test_damaged_pictures_are_skipped_with_a_reason(tmp_path: Path) -> None:
    order = [f"{i}.jpg" for i in range(6)]
    write_pictures(tmp_path, order, 320, 240)
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3.jpg").write_bytes(b"")
    (tmp_path / "4.jpg").write_bytes(b"not a picture at all")
    items = list(open_source(tmp_path).frames())
    assert [item.name for item in items] == order
    assert [isinstance(item, Frame) for item in items] == [True, True, False, False, False, True]
    for item in items[2:5]:
        assert isinstance(item, SkippedFrame)
        assert item.reason.startswith("cannot be decoded (")
        assert "\n" not in item.reason


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_truncated_pictures_never_pass_for_whole(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(FrameSkipped, match="cannot be decoded"):
        read_image(path)


def test_a_floating_point_picture_is_no_picture(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FrameSkipped, match="floating-point"):
        read_image(tmp_path / "a.tif")


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"no picture in {tmp_path}: looked for .bmp"):
        open_source(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SourceError, match="no picture in"):
        open_source(tmp_path / "*.txt")


def test_a_picture_deleted_in_between_is_skipped(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["1.png", "2.png", "3.png"])
    frames = open_source(tmp_path).frames()
    next(frames)
    (tmp_path / "2.png").unlink()
    assert [type(item) for item in frames] == [SkippedFrame, Frame]


def test_real_photographs(shared_data: Path) -> None:
    frames = list(open_source(shared_data / "phone_fox" / "rgb", stride=10).frames())
    assert [f.name for f in frames] == [f"{i:06d}.jpg" for i in range(0, 50, 10)]
    assert all(isinstance(f, Frame) and f.image.shape == (854, 480, 3) for f in frames)
