from __future__ import annotations

from pathlib import Path

import pytest

from mem3r_plugin.errors import OutputError
from mem3r_plugin.exports.files import new_folder


def test_folder_appears_when_done(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "out", overwrite=False, marker="done") as folder:
        (folder / "done").touch()
        assert not (tmp_path / "a" / "out").exists()
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["out", "done"]


def test_failure_leaves_the_earlier_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "done").write_text("old")
    with (
        pytest.raises(RuntimeError),
        new_folder(tmp_path / "out", overwrite=True, marker="done") as folder,
    ):
        (folder / "done").write_text("new")
        raise RuntimeError
    assert (tmp_path / "out" / "done").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", overwrite=False, marker="done") as folder:
        (folder / "done").touch()
    assert (tmp_path / "out" / "done").exists()


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with (
        pytest.raises(OutputError, match="is a file"),
        new_folder(tmp_path / "out", overwrite=True, marker="done"),
    ):
        pass
