"""`mem3r view`: a picture without a screen, or one line that asks for it."""

from importlib.util import find_spec

import cv2
import pytest

from mem3r_plugin.commands.main import main
from tests.commands.terminal import MEM3R, complaint, mem3r
from tests.room_scan import make_room_scan

pytestmark = pytest.mark.skipif(find_spec("open3d") is None, reason="Open3D is not installed")


def test_a_scan_without_a_screen(tmp_path, monkeypatch):
    scan = make_room_scan(tmp_path, frames=2)
    assert MEM3R.exists()
    nowhere = {"PATH": "", "HOME": str(tmp_path)}
    assert "--picture" in complaint(mem3r("view", scan.path, env=nowhere))
    assert main(["view", str(scan.path), "--picture", str(tmp_path / "room.png")]) == 0
    picture = cv2.imread(str(tmp_path / "room.png"))
    assert picture is not None
    assert (picture != 245).any(axis=-1).mean() > 0.2


def test_nothing_to_look_at(tmp_path, capfd):
    assert main(["view", str(tmp_path / "gone.ply"), "--picture", str(tmp_path / "a.png")]) == 1
    assert "gone.ply does not exist" in capfd.readouterr().err


def test_a_picture_that_cannot_be_written(tmp_path, capfd):
    scan = make_room_scan(tmp_path, frames=2)
    (tmp_path / "file").write_text("")
    assert main(["view", str(scan.path), "--picture", str(tmp_path / "file" / "a.png")]) == 1
    assert len(capfd.readouterr().err.splitlines()) == 1
