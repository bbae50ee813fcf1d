import json
import multiprocessing
import os
import shutil
import signal
import subprocess
from hashlib import sha256

import numpy as np
import pytest

from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError, OutputError, ScanError
from mem3r_plugin.evaluation import PosedSequence, trajectory_errors
from mem3r_plugin.refine.keyframes.matching import MatchingConfig
from mem3r_plugin.refine.poses import PoseConfig, refine_poses
from mem3r_plugin.refine.refine import RefineConfig, refine
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import ScanHeader
from mem3r_plugin.scan.reader import read_header
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.stream.images import read_image
from mem3r_plugin.stream.preprocess import Preprocessor
from tests.room_scan import make_room_scan


def digest(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def hopeless_scan(sequence, directory, frames=slice(None)):
    """A scan of some real pictures by a network that has understood nothing: no motion, flat depth."""
    sink = ScanSink(directory, ScanHeader({"name": "none"}, {}, {"kind": "images"}, "estimated"))
    sink.open()
    for index, path in enumerate(sequence.images[frames]):
        picture = read_image(path)
        transform = Preprocessor(64).transform((picture.shape[1], picture.shape[0]))
        camera = transform.intrinsics(sequence.intrinsics)
        depth = np.full((camera.height, camera.width), 2, np.float32)
        frame = Frame(index, path.name, float(index), picture, path, index)
        sink.write(
            FrameEstimate(frame, np.eye(4), depth, depth, camera, transform, camera.fx * 0.6)
        )
    sink.close(True)
    return Scan.open(directory)


@pytest.fixture(scope="module")
def fountain(shared_data):
    return PosedSequence.load(shared_data / "photo_strecha_fountain_p11")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A room in which there is nothing to recognise."""
    return make_room_scan(tmp_path_factory.mktemp("plain"), frames=4)


def test_geometry_recovers_what_the_network_did_not_understand(fountain, tmp_path):
    scan = hopeless_scan(fountain, tmp_path / "scan")
    before = digest(scan.path)
    posed, report = refine_poses(scan, tmp_path / "work", PoseConfig())
    errors = trajectory_errors(posed.camera_to_world, fountain.camera_to_world)
    assert errors.ate_rmse < 0.002 * errors.path_length
    assert report.focal == pytest.approx(fountain.intrinsics.fx, rel=0.03)
    assert report.reprojection_error is not None
    assert report.reprojection_error < 1
    assert report.track_length is not None
    assert report.track_length > 3
    assert (report.frames, report.mapped, report.pieces, report.warnings) == (11, 11, 1, ())
    depth = np.concatenate([posed.seen(index)[1] for index in range(11)])
    assert np.median(depth) == pytest.approx(2, rel=0.05)  # in the network's unit
    assert digest(scan.path) == before
    again, _ = refine_poses(scan, tmp_path / "work", PoseConfig())
    assert np.array_equal(again.camera_to_world, posed.camera_to_world)


STAGES = [
    "choosing keyframes",
    "finding features",
    "matching features",
    "solving the pose graph",
    "mapping",
    "placing all frames",
    "matching keyframes",
    "refining depth",
    "comparing depth",
    "drawing",
]


def refine_and_die(config, stage):
    """Refine; be killed in the middle of this stage."""

    def tell(message, done, total):
        if message.startswith(stage) and done == total // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    refine(config, tell)


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_the_same_result(fountain, tmp_path):
    scan = hopeless_scan(fountain, tmp_path / "scan", slice(2, 8))
    before = digest(scan.path)
    fresh = multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload([__name__])  # children that need not import everything again
    for stage in STAGES:
        child = fresh.Process(
            target=refine_and_die, args=(RefineConfig(scan.path, tmp_path / "killed"), stage)
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not read_header(tmp_path / "killed").complete
    for name in ("killed", "whole"):
        refined = refine(RefineConfig(scan.path, tmp_path / name))
        assert refined.complete
        shutil.rmtree(refined.path / "refine")
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert digest(scan.path) == before
    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert report["result"] == "refined"
    assert report["score"]["reprojection_error"] < 1 < report["score_before"]["reprojection_error"]
    assert report["score"]["depth_disagreement"] < 0.02


def test_without_texture_the_scan_keeps_its_own_poses_and_says_so(plain, tmp_path):
    refined = refine(RefineConfig(plain.path, tmp_path / "refined"))
    assert refined.complete
    for old, new in zip(plain.frames, refined.frames, strict=True):
        assert np.array_equal(old.camera_to_world, new.camera_to_world)
        assert np.array_equal(plain.depth(old.index), refined.depth(new.index))
        assert np.array_equal(plain.image(old.index), refined.image(new.index))
    report = json.loads((refined.path / "report.json").read_text())
    assert report["poses"]["carried"] == 4
    assert "network's own" in report["poses"]["warnings"][0]


def test_a_finished_refinement_is_not_done_again(plain, tmp_path):
    config = RefineConfig(plain.path, tmp_path / "refined")
    refine(config)
    before = digest(config.output)
    stages: list[str] = []
    refine(config, lambda stage, done, total: stages.append(stage))
    assert stages == []
    assert digest(config.output) == before


def test_other_settings_need_another_output(plain, tmp_path):
    refine(RefineConfig(plain.path, tmp_path / "refined"))
    other = PoseConfig(matching=MatchingConfig(loops=0))
    with pytest.raises(ScanError, match="other settings"):
        refine(RefineConfig(plain.path, tmp_path / "refined", other))
    refine(RefineConfig(plain.path, tmp_path / "refined", other, overwrite=True))


def test_outputs_that_hold_something_else_are_refused(plain, tmp_path):
    with pytest.raises(ConfigError, match="the scan itself"):
        refine(RefineConfig(plain.path, plain.path))
    with pytest.raises(ScanError, match="holds another scan"):
        refine(RefineConfig(plain.path, make_room_scan(tmp_path / "other").path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="not a scan"):
        refine(RefineConfig(plain.path, tmp_path / "full"))


def test_the_command_says_what_it_did(plain, tmp_path, capsys):
    assert main(["refine", str(plain.path), "--output", str(tmp_path / "refined")]) == 0
    assert "4 frames, 0 mapped, 0 tracked, 4 carried along" in capsys.readouterr().out


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 kB, and how to make it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")

    def enlarge():
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)

    yield folder, enlarge
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_it_until_there_is_room(plain, disk, tmp_path):
    folder, enlarge = disk
    with pytest.raises(OutputError, match=r"the disk is full.*`mem3r refine` as before"):
        refine(RefineConfig(plain.path, folder / "refined"))
    enlarge()
    done = refine(RefineConfig(plain.path, folder / "refined"))
    assert done.complete
    whole = refine(RefineConfig(plain.path, tmp_path / "refined"))
    for refined in (done, whole):
        shutil.rmtree(refined.path / "refine")
    assert digest(done.path) == digest(whole.path)
