"""What several tests of worlds share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mem3r_plugin.training.worlds.catalogue import fetch_things
from tests.training.worlds.debian import serve
from tests.training.worlds.furniture_library import write_library


@pytest.fixture(scope="session")
def things_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small furniture library, fetched and converted."""
    pytest.importorskip("open3d", reason="needs Open3D")
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    place = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        serve(write_library(place / "package"), "shop", place / "tools", patch)
        fetch_things(place / "things", "shop")
    return place / "things"
