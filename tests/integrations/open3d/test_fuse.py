import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open3d as o3d
import pytest
from scipy.spatial import cKDTree

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.frames import scan_frame
from mem3r_open3d.fuse import fuse, state_file
from mem3r_open3d.mesh import MeshConfig
from mem3r_open3d.surface import thinned_surface
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError, OutputError, ScanError
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import FRAMES, HEADER, frame_file
from mem3r_plugin.scan.reader import read_header
from tests.room_scan import distance_to_walls, make_room_scan

VOXEL = 0.04
CONFIG = FusionConfig(voxel=VOXEL, memory="400MB", checkpoint_every=3)
FRAMES_IN_SCAN = 10


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"), frames=FRAMES_IN_SCAN)


@pytest.fixture(scope="module")
def fresh(room: Scan, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The mesh of the room, fused in one go."""
    file = tmp_path_factory.mktemp("fresh") / "room.ply"
    fuse(room, file, CONFIG)
    return file.read_bytes()


def copy_scan(scan: Scan, path: Path) -> Scan:
    shutil.copytree(scan.path, path)
    return Scan.open(path)


def move_frames(scan: Scan, moved: set[int]) -> Scan:
    nudge = pose_matrix(np.eye(3), [0.05, -0.03, 0.04])
    lines = [
        replace(
            f, camera_to_world=nudge @ f.camera_to_world if f.index in moved else f.camera_to_world
        )
        for f in scan.frames
    ]
    (scan.path / FRAMES).write_bytes(b"".join(frame.to_line() for frame in lines))
    return Scan.open(scan.path)


def vertices(file: Path) -> np.ndarray:
    return np.asarray(o3d.io.read_point_cloud(str(file)).points)


@pytest.mark.parametrize("zoom", [1.0, 1.02])
def test_the_mesh_of_an_exact_scan_is_its_walls(tmp_path, zoom):
    scan = make_room_scan(tmp_path, frames=6, zoom=zoom)
    report = fuse(scan, tmp_path / "room.ply", CONFIG)
    assert (report.frames, report.added, report.removed) == (6, 6, 0)
    points = vertices(tmp_path / "room.ply")
    assert len(points) == report.vertices > 1000
    distances = distance_to_walls(points)
    assert distances.mean() < VOXEL / 4
    assert np.quantile(distances, 0.99) < VOXEL


def test_voxels_are_by_default_no_finer_than_pixels(room, tmp_path):
    report = fuse(room, tmp_path / "room.ply", FusionConfig(memory="400MB"))
    depth = np.median(room.depth(0))
    focal = room.frame_network_camera(0).fx
    assert focal < 150
    assert report.voxel == pytest.approx(depth / focal, rel=0.05)
    assert report.vertices > 1000


def test_the_same_bytes_every_time(room, fresh, tmp_path):
    fuse(room, tmp_path / "again.ply", replace(CONFIG, memory="2GB", checkpoint_every=100))
    assert (tmp_path / "again.ply").read_bytes() == fresh


def test_a_second_fusion_needs_resume_or_overwrite(room, fresh, tmp_path):
    output = tmp_path / "room.ply"
    fuse(room, output, CONFIG)
    with pytest.raises(OutputError, match=r"--resume, replace it with --overwrite"):
        fuse(room, output, CONFIG)
    assert fuse(room, output, CONFIG, resume=True).added == 0
    assert output.read_bytes() == fresh
    with pytest.raises(ScanError, match=r"voxel was 0\.04 and is now 0\.05"):
        fuse(room, output, replace(CONFIG, voxel=0.05), resume=True)
    assert fuse(room, output, replace(CONFIG, voxel=0.05), overwrite=True).added == FRAMES_IN_SCAN


def _fuse_until_killed(scan: Path, output: Path, frames: int) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "fusing depth" and done == frames:
            os.kill(os.getpid(), signal.SIGKILL)

    fuse(Scan.open(scan), output, CONFIG, progress=progress)


@pytest.mark.parametrize("frames", [1, 5])
def test_killed_then_resumed_gives_the_same_mesh(room, fresh, tmp_path, frames):
    output = tmp_path / "room.ply"
    process = get_context("spawn").Process(
        target=_fuse_until_killed, args=(room.path, output, frames)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not output.exists()
    report = fuse(room, output, CONFIG, resume=True)
    assert report.added == FRAMES_IN_SCAN - frames // 3 * 3
    assert output.read_bytes() == fresh


def test_only_what_moved_is_fused_again(room, tmp_path):
    scan = copy_scan(room, tmp_path / "scan")
    output = tmp_path / "room.ply"
    fuse(scan, output, CONFIG)
    moved = move_frames(copy_scan(room, tmp_path / "refined"), {4, 5})
    report = fuse(moved, output, CONFIG, resume=True)
    assert (report.added, report.removed, report.frames) == (2, 2, FRAMES_IN_SCAN)
    fuse(moved, tmp_path / "fresh.ply", CONFIG)
    clouds = [o3d.io.read_point_cloud(str(f)) for f in (output, tmp_path / "fresh.ply")]
    for first, second in (clouds, clouds[::-1]):
        assert max(first.compute_point_cloud_distance(second)) < VOXEL / 10


def test_what_has_changed_since_cannot_be_taken_out(room, tmp_path):
    scan = copy_scan(room, tmp_path / "scan")
    fuse(scan, tmp_path / "room.ply", CONFIG)
    file = frame_file(scan.path, "depth", 3)
    depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert depth is not None
    cv2.imwrite(str(file), depth + 1)
    with pytest.raises(ScanError, match=r"frame 3 of .* has changed .* --overwrite"):
        fuse(scan, tmp_path / "room.ply", CONFIG, resume=True)


def test_a_missing_depth_file_is_named_and_nothing_is_lost(room, fresh, tmp_path):
    scan = copy_scan(room, tmp_path / "scan")
    file = frame_file(scan.path, "depth", 7)
    content = file.read_bytes()
    file.unlink()
    output = tmp_path / "room.ply"
    with pytest.raises(ScanError, match=r"depth/000007\.png"):
        fuse(scan, output, CONFIG)
    file.write_bytes(b"no picture")
    with pytest.raises(ScanError, match=r"depth/000007\.png is missing or damaged"):
        fuse(scan, output, CONFIG)
    file.write_bytes(content)
    report = fuse(scan, output, CONFIG, resume=True)
    assert 0 < report.added < FRAMES_IN_SCAN
    assert output.read_bytes() == fresh


def test_frames_without_depth_are_passed_over_and_a_scan_of_them_is_refused(room, tmp_path):
    scan = copy_scan(room, tmp_path / "scan")
    for index in range(FRAMES_IN_SCAN):
        file = frame_file(scan.path, "depth", index)
        if index == 2:
            assert fuse(scan, tmp_path / "some.ply", CONFIG).vertices > 1000
        cv2.imwrite(str(file), np.zeros_like(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))
    with pytest.raises(ScanError, match=r"no frame .* has depth"):
        fuse(scan, tmp_path / "none.ply", CONFIG)
    assert not state_file(tmp_path / "none.ply").exists()


def test_a_full_disk_keeps_the_last_checkpoint(room, fresh, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        with pytest.raises(OutputError, match=r"disk is full|cannot write"):
            fuse(room, disk / "room.ply", CONFIG)
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        fuse(room, disk / "room.ply", CONFIG, resume=True)
        assert (disk / "room.ply").read_bytes() == fresh
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_damaged_state_is_told(room, tmp_path):
    state_file(tmp_path / "room.ply").write_bytes(b"nonsense" * 100)
    with pytest.raises(ScanError, match="damaged"):
        fuse(room, tmp_path / "room.ply", CONFIG, resume=True)


def test_two_fusions_do_not_write_one_state(room, tmp_path):
    def progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("fusing depth", 1):
            with pytest.raises(OutputError, match="in use by another fusion"):
                fuse(room, tmp_path / "room.ply", CONFIG, resume=True)

    fuse(room, tmp_path / "room.ply", CONFIG, progress=progress)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voxel": 0.0}, "voxel is 0.0"),
        ({"memory": "lots"}, "write it like 800MB or 4GB"),
        ({"memory": "1MB"}, "at least 400MB"),
        ({"voxel": 0.02, "truncation": 0.01}, "less than one voxel"),
        ({"confidence": 2.0}, "from 0 to 1"),
        ({"max_angle": 0.0}, "0 to 90"),
        ({"stride": 0}, "at least 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        FusionConfig(**options)


def test_confidence_depth_and_stride_choose_what_is_fused(room, tmp_path):
    def points(name: str, **options: Any) -> np.ndarray:
        fuse(room, tmp_path / name, replace(CONFIG, **options), MeshConfig(min_weight=0.1))
        return vertices(tmp_path / name)

    everything = points("all.ply")
    assert 0 < len(points("near.ply", max_depth=3.3)) < len(everything)
    assert len(points("sure.ply", confidence=0.88)) < len(everything)
    assert fuse(room, tmp_path / "few.ply", replace(CONFIG, stride=4)).frames == 3


def test_the_command_says_what_it_made(room, fresh, tmp_path, capsys):
    output = tmp_path / "room.ply"
    words = ["fuse", str(room.path), str(output), "--voxel", str(VOXEL), "--memory", "400MB"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"{FRAMES_IN_SCAN} frames" in said and "room.tsdf" in said and "room.png" in said
    assert output.with_suffix(".png").stat().st_size > 10_000
    assert output.read_bytes() == fresh
    assert main(words) == 1
    assert "--resume" in capsys.readouterr().err


def test_of_a_large_mesh_some_vertices_are_drawn(room, tmp_path, monkeypatch):
    monkeypatch.setattr("mem3r_plugin.commands.fuse._MOST_DRAWN", 1000)
    output = tmp_path / "room.ply"
    assert main(["fuse", str(room.path), str(output), "--voxel", "0.02"]) == 0
    points = thinned_surface(state_file(output), 20)
    everything = vertices(output)
    assert len(everything) / 20 <= len(points.positions) < len(everything) / 10
    assert cKDTree(everything).query(points.positions)[0].max() < 1e-6
    picture = cv2.imread(str(output.with_suffix(".png")))
    assert picture is not None
    assert (picture[:480, :640] < 240).any(axis=-1).mean() > 0.1  # no bare background


def test_without_open3d_one_line_says_what_to_install(room, tmp_path):
    code = (
        "import sys; sys.modules['open3d'] = None\n"
        "from mem3r_plugin.commands.main import main\n"
        f"sys.exit(main(['fuse', {str(room.path)!r}, {str(tmp_path / 'm.ply')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert 'pip install "mem3r-plugin[open3d]"' in done.stderr


def test_grazing_depth_is_cut_where_a_network_guessed_and_kept_where_a_sensor_measured(
    room, tmp_path
):
    measured = copy_scan(room, tmp_path / "measured")
    header = replace(read_header(measured.path), source={"kind": "rgbd", "path": "sensor"})
    (measured.path / HEADER).write_text(header.to_json())
    measured = Scan.open(measured.path)

    def depth(scan: Scan, max_angle: float | None) -> np.ndarray:
        return scan_frame(scan, 3, replace(CONFIG, max_angle=max_angle)).depth

    assert np.array_equal(depth(room, None), depth(room, 80.0))
    assert np.array_equal(depth(measured, None), measured.depth(3))
    assert np.count_nonzero(depth(measured, 45.0)) < np.count_nonzero(measured.depth(3))
    refined = replace(header, settings={**header.settings, "refine": {}})
    assert header.depth_is_measured and not refined.depth_is_measured


def test_what_other_frames_look_through_is_left_out_on_request(room, tmp_path):
    scan = copy_scan(room, tmp_path / "scan")
    file = frame_file(scan.path, "depth", 5)
    depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert depth is not None
    depth[20:40, 30:60] //= 2  # a board in mid-air, seen by this frame alone
    cv2.imwrite(str(file), depth)

    def floating(name: str, scan: Scan, **options: Any) -> int:
        fuse(scan, tmp_path / name, replace(CONFIG, **options), resume=True)
        return int((distance_to_walls(vertices(tmp_path / name)) > 0.5).sum())

    assert floating("plain.ply", scan) > 100
    assert floating("checked.ply", scan, cross_check=1) == 0
    moved = move_frames(scan, {2})
    assert floating("checked.ply", moved, cross_check=1) == 0
    fuse(moved, tmp_path / "fresh.ply", replace(CONFIG, cross_check=1))
    assert (tmp_path / "fresh.ply").read_bytes() == (tmp_path / "checked.ply").read_bytes()
