import pytest

from mem3r_plugin.commands.main import main
from mem3r_plugin.commands.run import parse
from mem3r_plugin.scan import Scan
from tests.commands.terminal import mem3r
from tests.stream.pictures import write_pictures, write_video


def test_source_and_output_are_all_that_is_needed():
    options = parse(["walk.mp4", "--output", "scan"])
    assert (options.source, str(options.output)) == ("walk.mp4", "scan")
    assert options.update == "ttt3r"
    assert options.config is None


def test_a_preset_gives_defaults_that_options_override():
    assert parse(["walk.mp4", "--output", "scan", "--config", "long"]).reset_interval == 100
    arguments = ["walk.mp4", "--config=long", "--reset-interval", "7", "--output", "scan"]
    options = parse(arguments)
    assert (options.reset_interval, options.checkpoint_every) == (7, 200)


def test_a_preset_of_ones_own_may_name_the_source(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("source: walk.mp4\noutput: scan\nstride: 3\n")
    options = parse(["--config", str(path)])
    assert (options.source, str(options.output), options.stride) == ("walk.mp4", "scan", 3)


def test_a_missing_output_is_asked_for(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["walk.mp4"])
    assert ended.value.code == 2
    assert "--output" in capsys.readouterr().err


def test_a_video_becomes_a_scan(small_model, tmp_path):
    source = write_video(tmp_path / "walk.mp4", frames=8)
    scan = tmp_path / "scan"
    done = mem3r(
        *("run", source, "--output", scan, "--stride", 2),
        *("--model", small_model.preset, "--weights", small_model.weights),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{scan}: 4 frames\n"
    assert done.stderr == ""
    opened = Scan.open(scan)
    assert opened.complete
    assert [frame.position for frame in opened.frames] == [0, 2, 4, 6]


def test_resuming_goes_on_from_a_checkpoint(small_model, tmp_path, capsys):
    names = [f"{index}.png" for index in range(6)]
    source = write_pictures(tmp_path / "pictures", names, 64, 48)
    arguments = ["run", str(source), "--output", str(tmp_path / "scan")]
    arguments += ["--model", small_model.preset, "--weights", small_model.weights]
    assert main(arguments) == 0
    assert main([*arguments, "--resume"]) == 0
    assert "complete already" in capsys.readouterr().err
