"""Scans of a batch that pass through one network side by side."""

import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mem3r_plugin.batch import BatchConfig, Outcome, ScanOptions, batch
from mem3r_plugin.batch.work import LOCKS, _sole_writer
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError, WeightsError
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream import window
from tests.batch.test_batch import words
from tests.stream.pictures import picture, write_pictures, write_video
from tests.stream.small_model import SmallModel, tree

PROCESSES = multiprocessing.get_context("fork")

WALKS = {
    "a": (64, 48, 23),
    "b": (64, 32, 9),
    "c": (64, 48, 5),
    "d": (64, 48, 14),
    "e": (64, 32, 17),
}
"""Width, height and frames of the sources."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sources of two sizes and several lengths."""
    folder = tmp_path_factory.mktemp("walks")
    for seed, (name, (width, height, frames)) in enumerate(WALKS.items()):
        (folder / name).mkdir()
        for index in range(frames):
            pixels = picture(width, height, 100 * seed + index)
            cv2.imwrite(str(folder / name / f"{name}{index:03}.png"), pixels)
    return folder


@pytest.fixture(scope="module")
def scan_options(small_model: SmallModel) -> ScanOptions:
    return ScanOptions(
        model=small_model.preset, weights=small_model.weights, device="cpu", precision="float32"
    )


@pytest.fixture
def walks(scan_options: ScanOptions, sources: Path, tmp_path: Path) -> BatchConfig:
    """A batch of the five, three of them at once."""
    scan_list = tmp_path / "list.txt"
    scan_list.write_text("".join(f"{sources / name}\n" for name in WALKS))
    return BatchConfig(scan_list, tmp_path / "scans", together=3, scan=scan_options)


@pytest.fixture(scope="module")
def alone(scan_options: ScanOptions, sources: Path) -> Path:
    """The folder of the same scans, made one after the other."""
    scan_list = sources / "list.txt"
    scan_list.write_text("".join(f"{name}\n" for name in WALKS))
    return made_alone(
        BatchConfig(scan_list, sources / "alone", scan=scan_options), sources / "alone"
    )


def made_alone(config: BatchConfig, output: Path) -> Path:
    for outcome in batch(replace(config, together=1, output=output)):
        assert outcome.failure is None
    return output


def assert_equal_scans(scan: Scan, expected: Scan) -> None:
    """The same to rounding: depth and confidence to a step of their codes."""
    assert scan.complete and len(scan) == len(expected)
    assert scan.header.settings == expected.header.settings
    assert scan.camera.fx == pytest.approx(expected.camera.fx, rel=1e-5)
    for index, (frame, other) in enumerate(zip(scan.frames, expected.frames, strict=True)):
        assert (frame.name, frame.position) == (other.name, other.position)
        np.testing.assert_allclose(frame.camera_to_world, other.camera_to_world, atol=1e-5)
        np.testing.assert_allclose(
            scan.depth(index), expected.depth(index), atol=1.01 * scan.depth_unit + 1e-5
        )
        assert (
            np.abs(1 / scan.confidence(index) - 1 / expected.confidence(index)).max() < 1.01 / 255
        )


@pytest.mark.parametrize("update", ["plain", "ttt3r"])
def test_scans_together_are_like_scans_alone(walks, tmp_path, update):
    walks = replace(walks, scan=replace(walks.scan, update=update, reset_interval=8))
    alone = made_alone(walks, tmp_path / "alone")
    outcomes = {outcome.scan.name: outcome for outcome in batch(walks)}
    for name, (_, _, frames) in WALKS.items():
        assert outcomes[name] == Outcome(walks.output / name, frames, frames)
        assert_equal_scans(Scan.open(walks.output / name), Scan.open(alone / name))
        assert not (walks.output / name / "state").exists()
    assert next(iter(outcomes)) == "c"  # told as soon as it is through


def test_twice_together_gives_the_same_bytes(walks, tmp_path):
    list(batch(walks))
    list(batch(replace(walks, output=tmp_path / "again")))
    for name in WALKS:
        assert tree(walks.output / name) == tree(tmp_path / "again" / name)


def test_scans_that_fail_take_no_others_with_them(walks, alone, sources, tmp_path):
    """One is no video, one breaks off in the middle, one may not be written."""
    (tmp_path / "broken.mp4").write_text("no video")
    masks = tmp_path / "masks"
    masks.mkdir()
    cv2.imwrite(
        str(masks / "d011.png"), np.zeros((9, 9), np.uint8)
    )  # of another size than its frame
    (walks.output / "e").mkdir(parents=True)
    (walks.output / "e" / "thesis.txt").write_text("not to be overwritten")
    lines = [str(sources / name) for name in "daecb"]
    walks.list.write_text("\n".join(["broken.mp4", *lines]))
    walks = replace(walks, scan=replace(walks.scan, masks=masks, checkpoint_every=2))
    outcomes = {outcome.scan.name: outcome for outcome in batch(walks)}
    assert outcomes["broken"].failure and "broken.mp4 cannot be read" in outcomes["broken"].failure
    assert outcomes["e"].failure and "thesis.txt" in outcomes["e"].failure
    assert outcomes["d"].failure and "d011.png is 9x9" in outcomes["d"].failure
    stopped = Scan.open(walks.output / "d")
    assert 7 <= len(stopped) <= 11 and not stopped.complete  # what waited to be written is dropped
    for name in "abc":
        assert outcomes[name].failure is None
        scan, expected = Scan.open(walks.output / name), Scan.open(alone / name)
        assert len(scan) == len(expected) and scan.complete

    (masks / "d011.png").unlink()
    cv2.imwrite(str(masks / "unused.png"), np.zeros((9, 9), np.uint8))
    again = {outcome.scan.name: outcome for outcome in batch(walks)}
    assert again["d"].failure is None and again["d"].frames == 14 and again["a"].made == 0
    assert_equal_poses(walks.output / "d", alone / "d")


def assert_equal_poses(scan: Path, expected: Path) -> None:
    some, others = (Scan.open(path).frames for path in (scan, expected))
    for frame, other in zip(some, others, strict=True):
        np.testing.assert_allclose(frame.camera_to_world, other.camera_to_world, atol=1e-5)


def test_a_full_disk_stops_one_scan(walks, alone, monkeypatch):
    """The disk is mocked: it has no room for one frame of one scan."""
    replace_file = os.replace

    def full(source, target, **options):
        if Path(target) == walks.output / "a" / "depth" / "000012.png":
            raise OSError(28, "No space left on device")
        replace_file(source, target, **options)

    monkeypatch.setattr(os, "replace", full)
    outcomes = {outcome.scan.name: outcome for outcome in batch(walks)}
    assert outcomes["a"].failure and "the disk is full" in outcomes["a"].failure
    assert len(Scan.open(walks.output / "a")) == 12
    for name in "bcde":
        assert_equal_scans(Scan.open(walks.output / name), Scan.open(alone / name))


def test_a_scan_that_another_process_writes_holds_up_nobody(walks):
    held, release = threading.Event(), threading.Event()

    def hold():
        with _sole_writer(walks.output / "b", patience=0):
            held.set()
            release.wait()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    outcomes = {outcome.scan.name: outcome for outcome in batch(walks)}
    release.set()
    other.join()
    assert outcomes["b"].failure and "being written by another process" in outcomes["b"].failure
    assert all(outcomes[name].failure is None for name in "acde")


# -- stopping and going on ------------------------------------------------------------------------


def batch_and_die_before_rename(config: BatchConfig, survived: int) -> None:
    """Make a batch; die in the place of the rename that follows `survived` others."""
    rename, calls = os.replace, iter(range(survived))

    def deadly(*args, **kwargs) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*args, **kwargs)

    os.replace = deadly
    torch.set_num_threads(1)
    list(batch(config))


@pytest.mark.parametrize("survived", [3, 30, 110])
def test_killed_together_they_go_on_together(walks, alone, monkeypatch, survived):
    monkeypatch.setattr(window, "LARGEST_WINDOW", 2)
    walks = replace(walks, scan=replace(walks.scan, checkpoint_every=2))
    process = PROCESSES.Process(target=batch_and_die_before_rename, args=(walks, survived))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    outcomes = {outcome.scan.name: outcome for outcome in batch(walks)}
    for name, (_, _, frames) in WALKS.items():
        assert outcomes[name].failure is None and outcomes[name].frames == frames
        assert_equal_scans(Scan.open(walks.output / name), Scan.open(alone / name))
    if survived >= 30:
        assert sum(outcome.made for outcome in outcomes.values()) < sum(
            n for *_, n in WALKS.values()
        )


def test_left_early_the_others_can_be_continued(walks, alone):
    outcomes = batch(replace(walks, scan=replace(walks.scan, checkpoint_every=2)))
    assert next(outcomes).scan.name == "b"  # a is in the middle
    outcomes.close()  # what Ctrl-C does
    assert not Scan.open(walks.output / "a").complete
    walks = replace(walks, scan=replace(walks.scan, checkpoint_every=7), together=2)
    for outcome in batch(walks):
        assert outcome.failure is None
        assert_equal_scans(Scan.open(outcome.scan), Scan.open(alone / outcome.scan.name))
    assert {path.name for path in walks.output.iterdir()} == {*WALKS, LOCKS}


# -- for the user -----------------------------------------------------------------------------------


def test_the_command(config, tmp_path, capsys):
    write_video(tmp_path / "sources" / "fourth.mp4", 6)
    with config.list.open("a") as file:
        file.write("fourth.mp4\n")
    assert main([*words(config), "--together", "2"]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{config.output}: 3 of 4 scans complete\n"
    assert "second: failed: " in captured.err and "fourth: 6 frames" in captured.err
    folder = tmp_path / "sources" / "second.mp4"
    folder.unlink()
    write_pictures(folder, ["0.png", "1.png"], 64, 48)
    assert main([*words(config), "--together", "2"]) == 0
    assert "second: 2 frames" in capsys.readouterr().err


def test_weights_that_are_missing_are_named_at_once(walks):
    walks = replace(walks, scan=replace(walks.scan, weights="nowhere.safetensors"))
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        list(batch(walks))
    assert not walks.output.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"together": 0}, "together is 0"), ({"engine": "ray"}, "together is for --engine local")],
)
def test_impossible_options_are_refused(walks, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(walks, **changes)
