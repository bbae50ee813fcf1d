from dataclasses import replace
from pathlib import Path

import pytest

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.fuse import fuse, state_file
from mem3r_open3d.sink import TsdfSink
from mem3r_open3d.store import BlockStore
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import ScanHeader
from mem3r_plugin.scan.writer import ScanMark
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.run import RunConfig
from mem3r_plugin.stream.sinks import load_sink
from tests.room_scan import make_room_scan, room_colours, room_estimate, room_points, room_pose

CONFIG = FusionConfig(voxel=0.04, memory="400MB")
SIZE = (200, 150)
HEADER = ScanHeader({"name": "exact"}, {}, {"kind": "arrays"}, "given")


def estimates(count: int, focal_drift: float = 0.0) -> list[FrameEstimate]:
    """Frames of the room; the camera is known better and better if there is a drift."""
    transform = Preprocessor(96).transform(SIZE)
    camera = Intrinsics.centred(160.0, *SIZE)
    result = []
    for i in range(count):
        picture = room_colours(room_points(camera, room_pose(i)))
        estimate = room_estimate(
            Frame(i, f"{i:03d}.png", i / 10, picture, None, i), camera, transform
        )
        error = 1 + focal_drift * (count - 1 - i)
        seen = estimate.intrinsics
        known = replace(seen, fx=seen.fx * error, fy=seen.fy * error)
        result.append(replace(estimate, intrinsics=known))
    return result


def stream(scan: ScanSink, sink: TsdfSink, frames: list[FrameEstimate], complete: bool) -> None:
    for each in (scan, sink):
        each.open()
    for estimate in frames:
        for each in (scan, sink):
            each.write(estimate)
    for each in (scan, sink):
        each.close(complete)


@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_the_mesh_is_that_of_the_finished_scan(tmp_path: Path, drift: float):
    path = tmp_path / "walk"
    sink = TsdfSink(path, CONFIG)
    stream(ScanSink(path, HEADER, copy_images=True), sink, estimates(5, drift), complete=True)
    assert sink.output == tmp_path / "walk.ply"
    fuse(Scan.open(path), tmp_path / "fresh.ply", CONFIG)
    assert sink.output.read_bytes() == (tmp_path / "fresh.ply").read_bytes()
    # Nothing is left to do for `mem3r fuse --resume`.
    assert fuse(Scan.open(path), sink.output, CONFIG, resume=True).added == 0


def test_an_interrupted_run_keeps_what_was_fused_and_goes_on(tmp_path: Path):
    path = tmp_path / "walk"
    frames = estimates(6)
    stream(ScanSink(path, HEADER, copy_images=True), TsdfSink(path, CONFIG), frames[:4], False)
    assert not (tmp_path / "walk.ply").exists()
    with BlockStore(state_file(tmp_path / "walk.ply")) as store:
        assert sorted(store.frames()) == [0, 1, 2, 3]
    # The scan's own checkpoint may lie before the fusion's.
    scan = ScanSink(path, HEADER, copy_images=True, resume_from=ScanMark(3, (), 0))
    stream(scan, TsdfSink(path, CONFIG), frames[3:], complete=True)
    fuse(Scan.open(path), tmp_path / "fresh.ply", CONFIG)
    assert (tmp_path / "walk.ply").read_bytes() == (tmp_path / "fresh.ply").read_bytes()


def test_run_fuses_while_frames_arrive(tmp_path: Path, small_model, capsys):
    pictures = make_room_scan(tmp_path, frames=4).path.parent / "source"
    words = ["run", str(pictures), "--output", str(tmp_path / "walk"), "--sink", "tsdf"]
    words += ["--model", small_model.preset, "--weights", small_model.weights]
    assert main(words) == 0
    assert (tmp_path / "walk.ply").stat().st_size > 1000
    assert state_file(tmp_path / "walk.ply").exists()


def test_an_unknown_sink_is_told_with_the_known_ones(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"unknown sink 'mesh'; installed are: .*tsdf"):
        load_sink("mesh", tmp_path)
    assert RunConfig("walk.mp4", tmp_path).sink == ()
