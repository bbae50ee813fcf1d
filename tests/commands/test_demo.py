import json
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from mem3r_plugin.commands.main import main
from mem3r_plugin.evaluation import PosedSequence
from mem3r_plugin.scan import Scan
from tests.stream.pictures import write_video

RESULTS = {"scan", "colmap", "trajectory.txt", "cloud.ply", "trajectory.png", "depth.png"}


def demo(small_model, output: Path, *arguments: str) -> int:
    model = ["--model", small_model.preset, "--weights", small_model.weights]
    return main(["demo", "--output", str(output), *model, *arguments])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_rendered_clip_is_reconstructed_and_measured(small_model, tmp_path, capsys):
    output = tmp_path / "demo"
    assert demo(small_model, output, "--frames", "4") == 0
    assert names(output) == RESULTS | {"clip", "errors.json"}
    clip = PosedSequence.load(output / "clip")
    assert len(clip) == len(Scan.open(output / "scan")) == 4
    assert pycolmap.Reconstruction(output / "colmap" / "sparse" / "0").num_images() == 4
    assert np.loadtxt(output / "trajectory.txt").shape == (4, 8)
    for picture in ("trajectory.png", "depth.png"):
        with Image.open(output / picture) as image:
            assert np.asarray(image).std() > 1
    told = capsys.readouterr().out
    errors = json.loads((output / "errors.json").read_text())
    for values in (errors["trajectory"], errors["baseline"]["trajectory"]):
        assert f"{values['ate_rmse']:.3f} m" in told
    for values in (errors["depth"], errors["baseline"]["depth"]):
        assert f"{values['abs_rel']:.3f}" in told
    assert "depth.png" in told


def test_a_second_demo_replaces_the_first(small_model, tmp_path):
    assert demo(small_model, tmp_path, "--frames", "3") == 0
    assert demo(small_model, tmp_path, "--frames", "2") == 0
    assert len(PosedSequence.load(tmp_path / "clip")) == 2
    assert len(Scan.open(tmp_path / "scan")) == 2


def test_a_video_of_ones_own_has_no_errors_to_tell(small_model, tmp_path, capsys):
    video = write_video(tmp_path / "walk.mp4", frames=4)
    assert demo(small_model, tmp_path / "demo", "--source", str(video)) == 0
    assert names(tmp_path / "demo") == RESULTS
    assert "Errors" not in capsys.readouterr().out
