import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from mem3r_plugin.commands.drift import Drift
from mem3r_plugin.commands.evaluate import parse
from mem3r_plugin.commands.main import main
from mem3r_plugin.model.checkpoint import write_checkpoint
from mem3r_plugin.model.weights import random_network
from mem3r_plugin.scan import Scan, Structure
from tests.commands.terminal import complaint, mem3r
from tests.evaluation.room_sequence import write_room_sequence
from tests.model.networks import MEM3R
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


def test_without_a_truth_the_scan_is_held_against_itself(room, tmp_path, capsys):
    scan = Scan.open(room / "room/scan")
    before = sorted(path.name for path in scan.path.iterdir())
    assert main(["evaluate", str(scan.path), "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert report["score"]["depth_disagreement"] < 0.01
    assert report["score"]["reprojection_error"] is None
    assert report["scale"] == "metres per unit: unknown"
    assert len(report["score"]["frames"]) == len(scan)
    assert (tmp_path / "out/trajectory.png").exists()
    printed = capsys.readouterr().out
    assert "neighbours disagree" in printed and "only `mem3r refine` finds points" in printed
    assert sorted(path.name for path in scan.path.iterdir()) == before


def test_without_a_truth_a_refined_scan_is_held_against_its_points(tmp_path, capsys):
    scan = make_room_scan(tmp_path)
    pixels = np.array([[100.0, 75.0], [101.0, 75.0]])
    Structure(np.array([[0, 0, 3.5]]), np.array([0, 1]), np.zeros(2, int), pixels).save(scan.path)
    assert main(["evaluate", str(scan.path), "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert report["score"]["track_length"] == 2
    assert report["score"]["reprojection_error"] > 0
    printed = capsys.readouterr().out
    assert "note: frames 000.png to 005.png (6) are weak: hardly any point" in printed


def test_the_drift_suite_writes_numbers_curves_and_a_table(tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    write_checkpoint(random_network(replace(MEM3R, picture_size=64)), weights)
    write_room_sequence(tmp_path / "data/room")
    options = {"contestants": [f"ours={weights}:ttt3r"], "lengths": [3, 5, 9], "worlds": 9}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(options))
    arguments = ["evaluate", "--suite", "drift", "--config", str(tmp_path / "suite.yaml")]
    arguments += ["--worlds", "0", "--data", str(tmp_path / "data")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/drift.json").read_text())
    assert [row["frames"] for row in report["summary"]["ours+ttt3r"]["room"]] == [3, 5, 6]
    assert (tmp_path / "out/drift.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "room: standing still" in printed and "room: ours+ttt3r" in printed


def test_the_drift_suite_can_do_without_real_sequences():
    options = parse(["--suite", "drift", "--data"])
    assert isinstance(options, Drift)
    assert options.data == ()


def test_another_suite_names_the_known_one(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--suite", "speed"])
    assert "drift" in capsys.readouterr().err
