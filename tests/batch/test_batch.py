import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mem3r_plugin.batch import BatchConfig, Outcome, batch
from mem3r_plugin.batch.ray_cluster import RayConfig
from mem3r_plugin.commands.batch import parse
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import run
from tests.stream.pictures import write_pictures
from tests.stream.small_model import tree


def words(config: BatchConfig) -> list[str]:
    scan = config.scan
    model = ["--model", scan.model, "--weights", str(scan.weights), "--device", "cpu"]
    return ["batch", str(config.list), "--output", str(config.output), *model]


def test_one_bad_source_does_not_stop_the_others(config, options, tmp_path):
    outcomes = list(batch(config))
    assert [outcome.scan.name for outcome in outcomes] == ["first", "second", "third"]
    assert outcomes[0] == Outcome(config.output / "first", frames=5, made=5)
    assert outcomes[1].frames == outcomes[1].made == 0
    assert outcomes[1].failure is not None and "second.mp4 cannot be read" in outcomes[1].failure
    alone = replace(
        options, source=str(tmp_path / "sources/third/*.png"), output=tmp_path / "alone"
    )
    run(alone, silent=True)
    assert tree(config.output / "third") == tree(tmp_path / "alone")


def test_the_same_command_again_makes_only_what_is_missing(config, tmp_path, capsys):
    assert main(words(config)) == 1
    captured = capsys.readouterr()
    told = captured.err.splitlines()
    assert captured.out == f"{config.output}: 2 of 3 scans complete\n"
    assert told[0] == "1/3 first: 5 frames"
    assert told[1].startswith("2/3 second: failed: ")
    assert told[3].startswith("mem3r: error: 1 of 3 scans failed")
    before = {path: path.stat().st_mtime_ns for path in (config.output / "first").rglob("*")}

    source = tmp_path / "sources" / "second.mp4"
    source.unlink()
    write_pictures(source, ["0.png"], 64, 48)  # a folder may be called so, too
    assert main(words(config)) == 0
    captured = capsys.readouterr()
    assert "1/3 first: 5 frames, complete before" in captured.err
    assert "2/3 second: 1 frames" in captured.err
    assert captured.out == f"{config.output}: 3 of 3 scans complete\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_do_not_touch_a_complete_scan(config):
    list(batch(config))
    before = tree(config.output)
    outcomes = list(batch(replace(config, scan=replace(config.scan, stride=2))))
    assert all(outcome.failure is not None for outcome in outcomes)
    assert "begun with other settings" in str(outcomes[0].failure)
    assert tree(config.output) == before


def test_relative_paths_hold_in_any_folder(config, small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.safetensors").write_bytes(Path(small_model.weights).read_bytes())
    scan = replace(config.scan, weights="small.safetensors")
    relative = BatchConfig(
        config.list.relative_to(tmp_path), config.output.relative_to(tmp_path), scan=scan
    )
    outcomes = batch(relative)
    assert next(outcomes).scan == config.output / "first"
    assert Scan.open(config.output / "first").complete


def test_options_of_a_run_and_presets():
    options = parse(["list.txt", "--output", "scans", "--config", "long", "--stride", "3"])
    assert (options.scan.stride, options.scan.reset_interval) == (3, 100)
    assert options.engine == "local" and options.scan.resume


@pytest.mark.parametrize("arguments", [["--overwrite"], ["--resume"], ["--source", "a"]])
def test_what_the_list_decides_is_no_option(arguments, capsys):
    with pytest.raises(SystemExit):
        parse(["list.txt", "--output", "scans", *arguments])
    assert "nrecognized" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: replace(c, threads=0), "threads is 0"),
        (lambda c: replace(c, ray=RayConfig(workers=2)), "--engine ray"),
        (lambda c: RayConfig(workers=0), "workers is 0"),
        (lambda c: RayConfig(gpus=1.5), r"gpus is 1\.5"),
        (lambda c: RayConfig(gpus=-1), "gpus is -1"),
        (
            lambda c: RayConfig(workers=2, address="auto"),
            "workers is for a cluster on this machine",
        ),
    ],
)
def test_impossible_options_are_refused(config, make, message):
    with pytest.raises(ConfigError, match=message):
        make(config)


def test_without_ray_the_extra_is_named(config, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert main([*words(config), "--engine", "ray"]) == 1
    assert capsys.readouterr().err == (
        'mem3r: error: engine ray needs Ray: pip install "mem3r-plugin[ray]"\n'
    )


def test_ray_is_imported_only_where_it_is_used():
    code = "import sys, mem3r_plugin.commands.batch; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
