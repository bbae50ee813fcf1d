"""A run takes real sources to a scan, and whatever goes wrong is one clear line and loses nothing."""

import os
import resource
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mem3r_plugin.errors import ConfigError, Mem3RError, OutputError, ScanError, SourceError
from mem3r_plugin.model.checkpoint import write_checkpoint
from mem3r_plugin.model.weights import load_network
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.images import read_image
from mem3r_plugin.stream.preprocess import to_network_input
from mem3r_plugin.stream.run import RunConfig, run
from tests.stream.pictures import video_frame, write_pictures
from tests.stream.small_model import pictures, tree
from tests.stream.spoilt import at_calls, nan_pose, showing, spoil


@pytest.fixture
def images(tmp_path):
    return write_pictures(tmp_path / "images", [f"{i}.png" for i in range(12)], 64, 48)


@pytest.fixture
def scan_path(tmp_path):
    return tmp_path / "scan"


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(count):
        writer.write(video_frame(number)[..., ::-1])
    writer.release()
    return path


class Collector:
    """A sink that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def open(self) -> None:
        self.events.append("open")

    def write(self, estimate):
        self.events.append(estimate.frame.index)

    def close(self, complete):
        self.events.append(complete)


def test_pictures_are_as_large_as_those_the_weights_were_trained_on(
    small_model, images, scan_path, tmp_path
):
    network = load_network(small_model.preset, small_model.weights)
    assert network.config.picture_size == 64
    network.config = replace(network.config, picture_size=32)
    write_checkpoint(network, tmp_path / "smaller.safetensors")
    config = replace(
        small_model.config(images, scan_path), weights=str(tmp_path / "smaller.safetensors")
    )
    assert run(config, silent=True).transform.target_size == (32, 16)
    larger = replace(config, size=64, output=tmp_path / "larger")
    assert run(larger, silent=True).transform.target_size == (64, 48)


def test_image_folder(small_model, images, scan_path):
    scan = run(small_model.config(images, scan_path), silent=True)
    assert scan.complete
    assert [frame.name for frame in scan.frames] == [f"{i}.png" for i in range(12)]
    expected = list(small_model.front_end().stream(images))
    for index, estimate in enumerate(expected):
        np.testing.assert_array_equal(scan.frames[index].camera_to_world, estimate.camera_to_world)
        np.testing.assert_allclose(scan.depth(index), estimate.depth, atol=scan.depth_unit / 2)
        np.testing.assert_array_equal(scan.image(index), estimate.frame.image)
        assert scan.image_file(index) == images / f"{index}.png"
    assert scan.camera == expected[-1].original_intrinsics
    assert scan.header.settings["size"] == 64
    assert len(scan.header.model["weights_sha256"]) == 64
    assert not (scan_path / "state").exists()
    assert not (scan_path / "images").exists()


def test_two_runs_give_the_same_bytes(small_model, images, tmp_path):
    run(small_model.config(images, tmp_path / "a"), silent=True)
    run(small_model.config(images, tmp_path / "b", checkpoint_every=3), silent=True)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_video(small_model, tmp_path, scan_path):
    video = write_video(tmp_path / "walk.mp4", 9)
    scan = run(small_model.config(video, scan_path, stride=2), silent=True)
    assert [frame.position for frame in scan.frames] == [0, 2, 4, 6, 8]
    np.testing.assert_allclose([frame.timestamp for frame in scan.frames], np.arange(5) / 5)
    for index in range(5):
        error = np.abs(scan.image(index).astype(int) - video_frame(2 * index))
        assert error.mean() < 10
        assert scan.image_file(index) is None


def test_video_of_one_frame(small_model, tmp_path, scan_path):
    scan = run(small_model.config(write_video(tmp_path / "one.mp4", 1), scan_path), silent=True)
    assert scan.complete
    assert len(scan) == 1
    np.testing.assert_array_equal(scan.frames[0].camera_to_world, np.eye(4))


def test_arrays_are_copied_into_the_scan(small_model, scan_path):
    config = small_model.config("my robot", scan_path)
    scan = run(config, source=pictures(3), silent=True)
    for index, image in enumerate(pictures(3)):
        np.testing.assert_array_equal(scan.image(index), image)
        assert scan.image_file(index) == scan_path / "images" / f"{index:06d}.png"


def test_original_pixels_are_kept_when_the_network_sees_fewer(small_model, tmp_path, scan_path):
    folder = write_pictures(tmp_path / "large", ["a.jpg", "b.jpg"], 150, 101)
    scan = run(small_model.config(folder, scan_path, intrinsics="130"), silent=True)
    assert scan.image(0).shape == (101, 150, 3)
    assert scan.original_depth(0).shape == (101, 150)
    assert scan.depth(0).shape == (32, 64)
    assert (scan.camera.fx, scan.camera.cx, scan.camera.cy) == pytest.approx((130, 75, 50.5))
    assert scan.header.camera_origin == "given"


def test_each_frame_has_its_own_camera(small_model, images, scan_path):
    scan = run(small_model.config(images, scan_path, camera="per_frame"), silent=True)
    expected = small_model.front_end(camera="per_frame").stream(images)
    for index, estimate in enumerate(expected):
        stored, estimated = scan.frame_camera(index), estimate.original_intrinsics
        for name in ("fx", "fy", "cx", "cy"):
            assert getattr(stored, name) == pytest.approx(getattr(estimated, name), rel=1e-12)
    assert len({scan.frame_camera(index).fx for index in range(len(scan))}) == len(scan)
    assert scan.camera_mode == "per_frame"
    assert scan.header.camera_origin == "estimated"


def test_unusable_frames_are_recorded_and_told(small_model, images, scan_path, capsys):
    (images / "3.png").write_bytes((images / "3.png").read_bytes()[:100])
    cv2.imwrite(str(images / "5.png"), np.zeros((48, 64, 3), np.uint8))
    cv2.imwrite(str(images / "7.png"), np.full((20, 30, 3), 99, np.uint8))
    scan = run(small_model.config(images, scan_path))
    assert len(scan) == 9
    assert scan.complete
    skipped = scan.header.skipped
    assert [(s["position"], s["name"]) for s in skipped] == [
        (3, "3.png"), (5, "5.png"), (7, "7.png"),
    ]  # fmt: skip
    assert "30x20" in skipped[2]["reason"]
    lines = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert [line.split(":")[0] for line in lines] == [f"skipped {i}.png" for i in (3, 5, 7)]


def shown(images, *numbers):
    """What the network sees of these pictures."""
    return [to_network_input(read_image(images / f"{number}.png")) for number in numbers]


def test_nan_of_the_network_costs_one_frame(small_model, images, scan_path, monkeypatch):
    spoil(monkeypatch, showing(*shown(images, 4)), nan_pose)
    scan = run(small_model.config(images, scan_path), silent=True)
    assert [frame.position for frame in scan.frames] == [0, 1, 2, 3, *range(5, 12)]
    assert [frame.index for frame in scan.frames] == list(range(11))
    assert [s["name"] for s in scan.header.skipped] == ["4.png"]


def test_lasting_nan_stops_the_run_and_keeps_the_frames(
    small_model, images, scan_path, monkeypatch
):
    spoil(monkeypatch, showing(*shown(images, *range(2, 12))), nan_pose)
    with pytest.raises(Mem3RError, match="8 frames in a row"):
        run(small_model.config(images, scan_path), silent=True)
    scan = Scan.open(scan_path)
    assert len(scan) == 2
    assert not scan.complete


def test_run_without_any_frame_says_why(small_model, images, scan_path, monkeypatch):
    spoil(monkeypatch, at_calls(lambda call: True), nan_pose)
    with pytest.raises(SourceError, match=r"no frame could be used: 0\.png .*NaN"):
        run(small_model.config(images, scan_path, max_frames=3), silent=True)


def test_other_sinks_get_every_frame(small_model, images, scan_path):
    sink = Collector()
    run(small_model.config(images, scan_path, max_frames=3), sinks=[sink], silent=True)
    assert sink.events == ["open", 0, 1, 2, True]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interruption_closes_every_sink_as_incomplete(
    small_model, images, scan_path, error, capsys
):
    class Interrupting(Collector):
        def write(self, estimate):
            super().write(estimate)
            if estimate.frame.index == 4:
                raise error

    sinks = [Collector(), Interrupting()]
    with pytest.raises(error):
        run(small_model.config(images, scan_path), sinks=sinks)
    assert [sink.events[-1] for sink in sinks] == [False, False]
    scan = Scan.open(scan_path)
    assert len(scan) == 5
    assert not scan.complete
    told = "holds 5 frames, continue with --resume" in capsys.readouterr().err
    assert told == (error is KeyboardInterrupt)


def test_silence(small_model, images, scan_path, capfd):
    cv2.imwrite(str(images / "5.png"), np.zeros((48, 64, 3), np.uint8))
    run(small_model.config(images, scan_path), silent=True)
    assert capfd.readouterr() == ("", "")


# -- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_keeps_what_was_written(small_model, tmp_path, small_disk):
    source = write_pictures(tmp_path / "many", [f"{i}.png" for i in range(40)], 64, 48)
    run(small_model.config(source, tmp_path / "whole"), silent=True)
    config = small_model.config(source, small_disk / "scan", checkpoint_every=4)
    with pytest.raises(OutputError, match=r"the disk is full.*--resume") as failure:
        run(config, silent=True)
    assert "\n" not in str(failure.value)
    scan = Scan.open(small_disk / "scan")
    assert 4 <= len(scan) < 40
    assert not scan.complete
    assert all(scan.depth(i).any() for i in range(len(scan)))
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    run(replace(config, resume=True), silent=True)
    assert tree(small_disk / "scan") == tree(tmp_path / "whole")


def test_file_size_limit_keeps_what_was_written(small_model, images, tmp_path, scan_path):
    run(small_model.config(images, tmp_path / "whole"), silent=True)
    config = small_model.config(images, scan_path, checkpoint_every=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = (tmp_path / "whole" / "frames.jsonl").stat().st_size
    largest = max(path.stat().st_size for path in (tmp_path / "whole").rglob("*.png"))
    limit = max(largest, lines // 2)  # hit while a line of frames.jsonl or a checkpoint is written
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OutputError, match="the disk is full"):
            run(config, silent=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (scan_path / "frames.jsonl").read_bytes().endswith(b"\n")
    assert 0 < len(Scan.open(scan_path)) < 12
    run(replace(config, resume=True), silent=True)
    assert tree(scan_path) == tree(tmp_path / "whole")


# -- mistakes ------------------------------------------------------------------------------------


def test_scan_in_the_way(small_model, images, scan_path):
    config = small_model.config(images, scan_path, max_frames=2)
    run(config, silent=True)
    before = tree(scan_path)
    with pytest.raises(OutputError, match="already holds a scan"):
        run(config, silent=True)
    assert tree(scan_path) == before
    assert len(run(replace(config, overwrite=True, max_frames=3), silent=True)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "/nowhere/weights.safetensors"},
        {"model": "nonsense"},
        {"update": "nonsense"},
        {"masks": Path("/nowhere")},
        {"source": "/nowhere/walk.mp4"},
        {"intrinsics": "80,80,900,900"},
        {"device": "nonsense"},
        {"size": 100},
    ],
)
def test_mistakes_leave_an_old_scan_alone(small_model, images, scan_path, changes):
    run(small_model.config(images, scan_path, max_frames=2), silent=True)
    before = tree(scan_path)
    config = small_model.config(images, scan_path, overwrite=True)
    with pytest.raises(Mem3RError) as failure:
        run(replace(config, **changes), silent=True)
    assert "\n" not in str(failure.value)
    assert tree(scan_path) == before


def test_contradictions_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="give one of them"):
        RunConfig("walk.mp4", tmp_path, resume=True, overwrite=True)
    with pytest.raises(ConfigError, match="checkpoint_every is 0"):
        RunConfig("walk.mp4", tmp_path, checkpoint_every=0)
    with pytest.raises(ConfigError, match="per_frame"):
        RunConfig("walk.mp4", tmp_path, camera="per_frame", intrinsics="500")


def test_damaged_header_is_named_on_resuming(small_model, images, scan_path):
    run(small_model.config(images, scan_path, max_frames=2), silent=True)
    (scan_path / "scan.json").write_text("{")
    with pytest.raises(ScanError, match=r"scan\.json is damaged"):
        run(small_model.config(images, scan_path, max_frames=2, resume=True), silent=True)
