"""Posed RGB-D folders become scans with the same poses, camera and depth."""

import multiprocessing
import os
import signal
import subprocess
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.commands.main import main
from mem3r_plugin.evaluation import load_sequence
from mem3r_plugin.exports import export_ply
from mem3r_plugin.geometry.pose import relative_pose, transform_points
from mem3r_plugin.imports import ImportRgbdConfig, import_rgbd
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import decode_depth, encode_depth
from tests.commands.terminal import complaint
from tests.evaluation.layouts import test_layouts as layouts
from tests.evaluation.room_sequence import TRUTH_FROM_ROOM, write_room_sequence
from tests.room_scan import distance_to_walls
from tests.stream.small_model import tree

PROCESSES = multiprocessing.get_context("fork")


def imported(directory: Path, output: Path, **options: Any) -> Scan:
    return import_rgbd(ImportRgbdConfig(directory, output, **options), silent=True)


@pytest.mark.parametrize("write", layouts.WITH_DEPTH)
def test_every_layout_with_depth(write: layouts.Writer, tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    sequence = load_sequence(folder)
    scan = imported(folder, tmp_path / "scan")
    assert scan.complete and len(scan) == layouts.FRAMES
    assert scan.camera == sequence.intrinsics
    for index, frame in enumerate(scan.frames):
        pose = relative_pose(layouts.POSES[0], layouts.POSES[index])
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=1e-6)
        assert frame.image == str(sequence.images[index].resolve())
        true = sequence.stored_depth(index)
        if sequence.depth_step is None:
            np.testing.assert_allclose(scan.depth(index), true, atol=scan.depth_unit / 2)
        else:
            np.testing.assert_allclose(scan.depth(index), true, rtol=1e-6)
        confidence = scan.confidence(index)
        assert (confidence[true > 0] == 510).all() and (confidence[true == 0] == 1).all()
    assert {entry["name"] for entry in scan.header.skipped} == {
        image.name for image in sequence.images[layouts.FRAMES :]
    }


@given(st.sampled_from([500.0, 1000.0, 5000.0, 6553.5, 256.0]), st.data())
def test_no_stored_depth_is_rounded(per_unit: float, data: st.DataObject) -> None:
    code = np.array(data.draw(st.lists(st.integers(0, 65535), min_size=1)), np.uint16)
    depth = code.astype(np.float32) / np.float32(per_unit)
    stored, too_far = encode_depth(depth, 1 / per_unit)
    np.testing.assert_array_equal(stored, code)
    assert not too_far.any()
    np.testing.assert_allclose(decode_depth(stored, 1 / per_unit), depth, rtol=1e-6)


def test_the_room_stands_where_it_stood(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "room")
    scan = imported(tmp_path / "room", tmp_path / "scan", stride=2)
    assert [frame.position for frame in scan.frames] == [0, 2, 4]
    for index, frame in enumerate(scan.frames):
        local = scan.frame_network_camera(index).unproject_depth(scan.depth(index))
        points = transform_points(frame.camera_to_world, local[scan.depth(index) > 0])
        # The world of the room is its first camera.
        assert distance_to_walls(points / TRUTH_FROM_ROOM.scale).max() < scan.depth_unit


def test_depth_of_another_size_than_the_picture(tmp_path: Path) -> None:
    folder = layouts.scannet(tmp_path / "data")
    width, height = layouts.SIZE
    for file in (folder / "depth").glob("*.png"):
        stored = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert stored is not None
        cv2.imwrite(str(file), stored[::2, ::2])
    scan = imported(folder, tmp_path / "scan")
    assert scan.transform.target_size == (width // 2, height // 2)
    assert scan.frame_network_camera(1).fx == layouts.CAMERA.fx / 2
    assert scan.image(1).shape == (height, width, 3)
    np.testing.assert_array_equal(scan.depth(1), load_sequence(folder).stored_depth(1))


def test_exports_serve_an_imported_scan(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "room", frames=2)
    scan = imported(tmp_path / "room", tmp_path / "scan")
    assert export_ply(scan, tmp_path / "room.ply") > 1000


def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "room", frames=3, size=(64, 48))
    config = ImportRgbdConfig(tmp_path / "room", tmp_path / "whole")
    import_rgbd(config, silent=True)
    whole = tree(tmp_path / "whole")
    config = replace(config, output=tmp_path / "scan")
    for moment in count():
        config = replace(config, overwrite=True, resume=False)
        process = PROCESSES.Process(target=import_and_die, args=(config, moment))
        process.start()
        process.join(60)
        import_rgbd(replace(config, overwrite=False, resume=True), silent=True)
        assert tree(tmp_path / "scan") == whole, f"killed before rename {moment}"
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert moment > 6


def import_and_die(config: ImportRgbdConfig, survived: int) -> None:
    """Import; die in the place of the rename that follows `survived` others."""
    rename, calls = os.replace, iter(range(survived))

    def deadly(*args: Any, **kwargs: Any) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*args, **kwargs)

    os.replace = deadly
    import_rgbd(config, silent=True)


# -- mistakes: one line, nothing lost ------------------------------------------------------------


class Command:
    """`mem3r import-rgbd` in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def complaint(self, *words: object) -> str:
        return complaint(self.run(*words))

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        status = main(["import-rgbd", *map(str, words)])
        return subprocess.CompletedProcess(["mem3r"], status, *self._capfd.readouterr())


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


def test_frames_without_a_pose_are_named(command: Command, tmp_path: Path) -> None:
    done = command.run(layouts.scannet(tmp_path / "data"), tmp_path / "scan")
    assert done.returncode == 0
    assert done.stderr == "skipped 10.jpg: it has no pose\n"
    assert done.stdout == f"{tmp_path / 'scan'}: {layouts.FRAMES} frames\n"


def test_no_depth(command: Command, tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "room", depth=False)
    assert "has no depth" in command.complaint(tmp_path / "room", tmp_path / "scan")
    assert not (tmp_path / "scan").exists()


def test_no_poses(command: Command, tmp_path: Path) -> None:
    folder = layouts.scannet(tmp_path / "data")
    for file in (folder / "pose").iterdir():
        np.savetxt(file, np.full((4, 4), np.inf))
    assert "no frame with a pose" in command.complaint(folder, tmp_path / "scan")


def test_no_known_layout(command: Command, tmp_path: Path) -> None:
    assert "none of the layouts" in command.complaint(tmp_path, tmp_path / "scan")


@pytest.mark.parametrize("file", ["depth/000003.png", "rgb/000003.png"])
def test_a_missing_file(file: str, command: Command, tmp_path: Path) -> None:
    room, output = tmp_path / "room", tmp_path / "scan"
    write_room_sequence(room)
    whole = (room / file).read_bytes()
    (room / file).write_bytes(whole[:100])
    message = command.complaint(room, output)
    assert str(room / file) in message
    assert len(Scan.open(output)) == 3
    (room / file).write_bytes(whole)
    assert "already holds a scan" in command.complaint(room, output)
    assert command.run(room, output, "--resume").returncode == 0
    assert len(Scan.open(output)) == 6


def test_another_stride_cannot_be_resumed(command: Command, tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "room", frames=3)
    imported(tmp_path / "room", tmp_path / "scan")
    message = command.complaint(tmp_path / "room", tmp_path / "scan", "--resume", "--stride", 2)
    assert "cannot be resumed" in message


def test_a_failed_import_leaves_an_old_scan_alone(command: Command, tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "room", frames=3)
    imported(tmp_path / "room", tmp_path / "scan")
    (tmp_path / "room/depth/000000.png").unlink()
    assert "000000.png" in command.complaint(tmp_path / "room", tmp_path / "scan", "--overwrite")
    assert len(Scan.open(tmp_path / "scan")) == 3


def test_a_real_sequence(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "rgbd_7scenes_redkitchen"
    scan = imported(folder, tmp_path / "scan", stride=100)
    sequence = load_sequence(folder)
    assert len(scan) == 4
    for index, frame in enumerate(scan.frames):
        np.testing.assert_array_equal(scan.depth(index), sequence.depth(frame.position))
        np.testing.assert_allclose(
            frame.camera_to_world,
            relative_pose(sequence.camera_to_world[0], sequence.camera_to_world[frame.position]),
            atol=1e-6,
        )
