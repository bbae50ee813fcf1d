"""Small sources, the list that names them, and options for a small network."""

from pathlib import Path

import pytest

from mem3r_plugin.batch import BatchConfig, ScanOptions
from tests.stream.conftest import small_model
from tests.stream.pictures import write_pictures
from tests.stream.small_model import SmallModel

__all__ = ["small_model"]


@pytest.fixture
def options(small_model: SmallModel) -> ScanOptions:
    return ScanOptions(model=small_model.preset, weights=small_model.weights, device="cpu")


@pytest.fixture
def config(options: ScanOptions, tmp_path: Path) -> BatchConfig:
    """A batch of three sources of five pictures; the second cannot be read."""
    for name in ("first", "third"):
        write_pictures(tmp_path / "sources" / name, [f"{i}.png" for i in range(5)], 64, 48)
    (tmp_path / "sources" / "second.mp4").write_text("no video")
    scan_list = tmp_path / "sources" / "list.txt"
    scan_list.write_text("first\nsecond.mp4\n\n# the last one\nthird/*.png\n")
    return BatchConfig(scan_list, tmp_path / "scans", scan=options)
