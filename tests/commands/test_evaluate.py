import json

import numpy as np
import pytest

from mem3r_plugin.commands.main import main
from tests.commands.terminal import complaint, mem3r
from tests.evaluation.room_sequence import write_room_sequence
from tests.room_scan import make_room_scan


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    write_room_sequence(folder / "truth")
    make_room_scan(folder / "room", name="{:06d}")
    return folder


def test_errors_and_a_plot_are_written(room, tmp_path, capsys):
    arguments = ["evaluate", str(room / "room/scan"), str(room / "truth")]
    assert main([*arguments, "--output", str(tmp_path / "made" / "here")]) == 0
    report = json.loads((tmp_path / "made/here/evaluation.json").read_text())
    assert report["protocol"] == "whole"
    assert report["results"][0]["trajectory"]["ate_rmse"] < 1e-9
    assert (tmp_path / "made/here/trajectory.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "camera position (ATE)" in printed and "surface: Chamfer" in printed


def test_an_unknown_protocol_names_the_known_ones(room, capsys):
    arguments = ["evaluate", str(room / "room/scan"), str(room / "truth"), "--protocol", "long"]
    assert main(arguments) == 1
    assert "no protocol is called 'long'; there are whole, scannet-long" in capsys.readouterr().err


def test_a_truth_in_no_known_layout(room, tmp_path):
    (tmp_path / "truth").mkdir()
    done = mem3r("evaluate", room / "room/scan", tmp_path / "truth", cwd=tmp_path)
    assert "has none of the layouts mem3r, bonn, tum" in complaint(done)
    assert not (tmp_path / "evaluation").exists()


def test_a_plot_with_gaps_in_the_truth(room, tmp_path, capsys):
    lines = (room / "truth/poses.txt").read_text().splitlines()
    tum = tmp_path / "rgbd_dataset_freiburg1_room"
    tum.mkdir()
    pictures = sorted((room / "truth/rgb").iterdir())
    listed = [f"{i / 10} {picture}" for i, picture in enumerate(pictures)]
    (tum / "rgb.txt").write_text("# timestamp filename\n" + "\n".join(listed))
    (tum / "groundtruth.txt").write_text("\n".join(lines[1:]))
    arguments = ["evaluate", str(room / "room/scan"), str(tum), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert report["frames_without_truth"] == 1
    assert np.isclose(report["results"][0]["trajectory"]["ate_rmse"], 0)
