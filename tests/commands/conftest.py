from pathlib import Path

import pytest

from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import run
from tests.stream.conftest import small_model
from tests.stream.pictures import write_pictures
from tests.stream.small_model import SmallModel

__all__ = ["small_model"]


@pytest.fixture(scope="session")
def small_scan(small_model: SmallModel, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """A whole scan of six pictures; read only."""
    folder = tmp_path_factory.mktemp("small_scan")
    names = [f"{index:02d}.png" for index in range(6)]
    source = write_pictures(folder / "pictures", names, 64, 48)
    return run(small_model.config(source, Path(folder / "scan")), silent=True)
