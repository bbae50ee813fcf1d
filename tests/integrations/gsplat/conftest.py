"""A small scan with exact depth, and the way to do without CUDA."""

from __future__ import annotations

import pytest

from mem3r_plugin.scan import Scan
from tests.room_scan import make_room_scan

pytest.importorskip("gsplat", reason='pip install "mem3r-plugin[gsplat]"')


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Six views of the room, 48x36."""
    folder = tmp_path_factory.mktemp("room")
    return make_room_scan(folder, size=(48, 32), network_size=48, focal=40.0)
