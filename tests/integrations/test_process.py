"""One command from a video to a project; a second call finds everything done."""

from __future__ import annotations

from pathlib import Path

import pycolmap
import pytest

from mem3r_nerfstudio.process import ProcessConfig, process
from mem3r_plugin.commands.main import main
from mem3r_plugin.scan import Scan
from tests.room_scan import make_room_scan
from tests.stream.small_model import SmallModel


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    make_room_scan(folder, frames=8, size=(96, 64), network_size=64, kind="video")
    return folder / "source" / "walk.mp4"


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_video_in_project_out_and_nothing_done_twice(
    video: Path, tmp_path: Path, small_model: SmallModel
) -> None:
    config = ProcessConfig(
        str(video), tmp_path, model=small_model.preset, weights=small_model.weights
    )
    project = process(config)
    assert project == tmp_path / "project"
    assert len(Scan.open(tmp_path / "refined")) == len(Scan.open(tmp_path / "scan")) == 8
    assert pycolmap.Reconstruction(project / "colmap" / "sparse" / "0").num_reg_images() == 8
    assert (project / "transforms.json").exists()
    before = times(tmp_path)
    assert process(config) == project
    assert times(tmp_path) == before


def test_a_project_follows_its_scan(video: Path, tmp_path: Path, small_model: SmallModel) -> None:
    config = ProcessConfig(
        *(str(video), tmp_path),
        model=small_model.preset,
        weights=small_model.weights,
        no_refine=True,
    )
    project = process(config)
    transforms = project / "transforms.json"
    first = transforms.stat().st_mtime_ns
    assert not (tmp_path / "refined").exists()
    frames = tmp_path / "scan" / "frames.jsonl"
    frames.write_text(frames.read_text().replace('"timestamp": 0.1', '"timestamp": 0.11'))
    process(config)
    assert transforms.stat().st_mtime_ns > first


def test_a_missing_video_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["process", str(tmp_path / "walk.mp4"), str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "walk.mp4" in line
    assert not list(tmp_path.iterdir())
