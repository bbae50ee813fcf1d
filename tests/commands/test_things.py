import sys

import pytest

from mem3r_plugin.commands.main import main

pytest.importorskip("open3d", reason="needs Open3D")


def test_without_apt_it_is_one_line_and_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["things", str(tmp_path / "things")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mem3r: error: apt-get and dpkg-deb are needed")
    assert "leave data.things out" in error
    assert not (tmp_path / "things").exists()


def test_a_folder_in_use_is_not_touched(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["things", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_without_open3d_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    assert main(["things", str(tmp_path / "things")]) == 1
    assert 'pip install "mem3r-plugin[open3d]"' in capsys.readouterr().err
