"""Killed at any moment, a scan is a valid part of the whole, and resuming completes it to the byte."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mem3r_plugin.errors import ScanError, SourceError
from mem3r_plugin.model.checkpoint import write_checkpoint
from mem3r_plugin.model.weights import load_network
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream import window
from mem3r_plugin.stream.run import RunConfig, run
from tests.stream import kills
from tests.stream.pictures import write_pictures
from tests.stream.small_model import pictures, tree
from tests.stream.stopping import Stopping

FRAMES = 5
PROCESSES = multiprocessing.get_context("fork")  # torch is imported already: a kill in 0.2 s


@pytest.fixture
def config(small_model, tmp_path, monkeypatch) -> RunConfig:
    """A run with everything that has a state: resets, the shared camera, skipped frames, several windows."""
    monkeypatch.setattr(window, "LARGEST_WINDOW", 2)
    folder = write_pictures(tmp_path / "images", [f"{i}.png" for i in range(FRAMES + 2)], 64, 48)
    cv2.imwrite(str(folder / "2.png"), np.zeros((48, 64, 3), np.uint8))
    (folder / "5.png").write_bytes(b"no picture")
    return small_model.config(
        folder, tmp_path / "scan", checkpoint_every=2, reset_interval=3, update="ttsa3r"
    )


@pytest.fixture
def whole(config, tmp_path):
    """The tree of the scan that nobody interrupts."""
    run(replace(config, output=tmp_path / "whole"), silent=True)
    return tree(tmp_path / "whole")


def killed(target, *arguments) -> bool:
    """Run in a process of its own; whether it died by SIGKILL rather than reach its end."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == -signal.SIGKILL


def frames_of_valid_part(path: Path, whole: dict[str, bytes]) -> int:
    """How many frames an interrupted scan has, each checked against the uninterrupted one."""
    try:
        scan = Scan.open(path)
    except ScanError as error:
        assert "no frame yet" in str(error) or "is not a scan" in str(error)
        return 0
    found = tree(path)
    lines = b"".join(frame.to_line() for frame in scan.frames)
    assert whole["frames.jsonl"].startswith(lines)
    for index in range(len(scan)):
        assert scan.depth(index).shape == scan.confidence(index).shape == (48, 64)
        for kind in ("depth", "confidence"):
            name = f"{kind}/{index:06d}.png"
            assert found[name] == whole[name]
    return len(scan)


def test_killed_before_any_rename(config, whole):
    counts, moment = [], 0
    while killed(kills.run_and_die_before_rename, config, moment):
        counts.append(frames_of_valid_part(config.output, whole))
        run(replace(config, resume=True, overwrite=False), silent=True)
        assert tree(config.output) == whole, f"killed before rename {moment}"
        config = replace(config, overwrite=True)
        moment += 1
    assert set(counts) == set(range(FRAMES + 1))
    assert tree(config.output) == whole


@pytest.mark.parametrize(("line", "written"), [(0, 1), (2, 0), (FRAMES - 1, 150)])
def test_killed_in_the_middle_of_a_line(config, whole, line, written):
    assert killed(kills.run_and_die_in_line, config, line, written)
    assert frames_of_valid_part(config.output, whole) == line
    run(replace(config, resume=True), silent=True)
    assert tree(config.output) == whole


def test_killed_again_and_again(config, whole):
    for moment in (9, 3, 0, 6, 2):
        assert killed(kills.run_and_die_before_rename, config, moment)
        frames_of_valid_part(config.output, whole)
        config = replace(config, resume=True)
    run(config, silent=True)
    assert tree(config.output) == whole


def test_killed_with_a_camera_per_frame(config, tmp_path):
    config = replace(config, camera="per_frame")
    run(replace(config, output=tmp_path / "whole"), silent=True)
    assert killed(kills.run_and_die_before_rename, config, 12)
    run(replace(config, resume=True), silent=True)
    assert tree(config.output) == tree(tmp_path / "whole")


def test_killed_from_outside(small_model, tmp_path):
    """What a user does: the interpreter is started, and `kill -9`-ed some time later."""
    folder = write_pictures(tmp_path / "images", [f"{i}.png" for i in range(40)], 64, 48)
    config = small_model.config(folder, tmp_path / "scan", checkpoint_every=7)
    run(replace(config, output=tmp_path / "whole"), silent=True)
    program = (
        "import time; from pathlib import Path, PosixPath\n"
        "from mem3r_plugin.stream.run import RunConfig, run\n"
        "class Slow:\n"
        "    def open(self): pass\n"
        "    def write(self, estimate): time.sleep(0.02)\n"
        "    def close(self, complete): pass\n"
    )
    lines = tmp_path / "scan" / "frames.jsonl"
    for wanted in (1, 17):
        code = f"{program}run({config!r}, sinks=[Slow()], silent=True)"
        process = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + 60
        while not lines.exists() or lines.read_bytes().count(b"\n") < wanted:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert wanted <= frames_of_valid_part(tmp_path / "scan", tree(tmp_path / "whole")) < 40
        config = replace(config, resume=True)
    run(config, silent=True)
    assert tree(tmp_path / "scan") == tree(tmp_path / "whole")


# -- resuming what cannot or need not be resumed -------------------------------------------------


def test_resuming_a_complete_scan_returns_it(config, whole, capsys):
    run(config, silent=True)
    (config.output / "state").mkdir()  # left behind by a kill in the last moment
    scan = run(replace(config, resume=True))
    assert scan.complete
    assert len(scan) == FRAMES
    assert f"is complete already, with {FRAMES} frames" in capsys.readouterr().err
    assert tree(config.output) == whole


def test_resuming_nothing_starts(config, whole):
    assert run(replace(config, resume=True), silent=True).complete
    assert tree(config.output) == whole


def test_other_settings_are_named(config, small_model, tmp_path):
    assert killed(kills.run_and_die_before_rename, config, 12)
    before = tree(config.output)
    other = load_network(small_model.preset, small_model.weights)
    with torch.no_grad():
        next(other.parameters()).add_(1e-6)
    write_checkpoint(other, tmp_path / "other.safetensors")
    changes = {
        "update": ("plain", "update was 'ttsa3r' and is now 'plain'"),
        "size": (32, "size was 64 and is now 32"),
        "stride": (2, "stride was 1 and is now 2"),
        "camera": ("per_frame", "camera was 'shared' and is now 'per_frame'"),
        "intrinsics": ("99", "intrinsics was None and is now '99'"),
        "precision": ("bfloat16", "precision was 'float32' and is now 'bfloat16'"),
        "reset_interval": (None, "reset_interval was 3 and is now None"),
        "weights": (str(tmp_path / "other.safetensors"), "weights_sha256 was"),
        "source": (str(config.source) + "/*.png", "path was"),
    }
    for name, (value, message) in changes.items():
        with pytest.raises(ScanError, match="cannot be resumed") as failure:
            run(replace(config, resume=True, **{name: value}), silent=True)
        assert message in str(failure.value)
        assert "\n" not in str(failure.value)
    assert tree(config.output) == before


def test_damaged_checkpoint_is_named(config):
    assert killed(kills.run_and_die_before_rename, config, 12)
    file = config.output / "state" / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ScanError, match=r"checkpoint\.safetensors is damaged.*--overwrite"):
        run(replace(config, resume=True), silent=True)


def test_arrays_resume_where_they_can_be_read_again(small_model, tmp_path):
    config = small_model.config("my robot", tmp_path / "scan", checkpoint_every=2)
    arrays = list(pictures(7))
    run(replace(config, output=tmp_path / "whole"), source=arrays, silent=True)
    with pytest.raises(KeyboardInterrupt):
        run(config, source=arrays, sinks=[Stopping()], silent=True)
    before = tree(config.output)
    with pytest.raises(SourceError, match="cannot be read again"):
        run(replace(config, resume=True), source=iter(arrays), silent=True)
    assert tree(config.output) == before
    run(replace(config, resume=True), source=arrays, silent=True)
    assert tree(config.output) == tree(tmp_path / "whole")
