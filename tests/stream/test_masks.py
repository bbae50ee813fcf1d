import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mem3r_plugin.errors import SourceError
from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.masks import MaskFolder
from tests.stream.pictures import picture

TRANSFORM = ImageTransform.identity((32, 24)).resized(16, 12).cropped(0, 2, 16, 8)


def frame(name: str) -> Frame:
    return Frame(0, name, 0.0, picture())


def write_mask(path: Path, width: int = 32, height: int = 24) -> None:
    """The left half is black, hence ignored."""
    mask = np.full((height, width), 255, np.uint8)
    mask[:, : width // 2] = 0
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize(
    ("frame_name", "mask_name"),
    [
        ("IMG_1.jpg", "IMG_1.jpg.png"),
        ("IMG_1.jpg", "IMG_1.png"),
        ("IMG_1.png", "IMG_1.png"),
        ("frame_000012.png", "frame_000012.png"),
    ],
)
def test_black_is_ignored_at_network_size(tmp_path: Path, frame_name: str, mask_name: str) -> None:
    write_mask(tmp_path / mask_name)
    masks = MaskFolder(tmp_path)
    keep = masks.keep(frame(frame_name), TRANSFORM)
    assert keep is not None
    assert keep.shape == (8, 16)
    assert keep.dtype == np.bool_
    assert not keep[:, :8].any()
    assert keep[:, 8:].all()
    assert masks.missing == 0


def test_any_grey_is_kept(tmp_path: Path) -> None:
    Image.fromarray(np.full((24, 32), 1, np.uint8)).save(tmp_path / "a.png")
    keep = MaskFolder(tmp_path).keep(frame("a.jpg"), TRANSFORM)
    assert keep is not None
    assert keep.all()


def test_a_frame_without_a_mask_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_mask(tmp_path / "a.png")
    masks = MaskFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert masks.keep(frame("b.jpg"), TRANSFORM) is None
        assert masks.keep(frame("c.jpg"), TRANSFORM) is None
    assert masks.missing == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"no mask for b.jpg in {tmp_path}: it is kept whole"
    ]


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="masks is no folder"):
        MaskFolder(tmp_path / "masks")
    with pytest.raises(SourceError, match="no picture in"):
        MaskFolder(tmp_path)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", 16, 12)
    with pytest.raises(SourceError, match=r"a.png is 16x12, its frame 32x24"):
        MaskFolder(tmp_path).keep(frame("a.jpg"), TRANSFORM)


def test_a_damaged_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"the mask .*a.png cannot be decoded"):
        MaskFolder(tmp_path).keep(frame("a.jpg"), TRANSFORM)
