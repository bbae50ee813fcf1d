from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_colmap import export_colmap
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError, Mem3RError, SourceError
from mem3r_plugin.exports import export_ply, export_tum
from mem3r_plugin.exports.tum import read_tum
from mem3r_plugin.refine.refine import RefineConfig, refine
from mem3r_plugin.refine.scale import carry_scale, measure_scale, write_scale
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import MetricScale
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.room_scan import make_room_scan, room_depth, room_points, room_pose

METRES = 2.5


@pytest.fixture
def room(tmp_path: Path) -> Scan:
    return make_room_scan(tmp_path / "room")


def measured(scan: Scan, known: str) -> MetricScale:
    scale = measure_scale(scan, known)
    assert scale is not None
    return scale


def test_distance_between_cameras(room: Scan) -> None:
    units = np.linalg.norm(room_pose(4)[:3, 3] - room_pose(0)[:3, 3])
    scale = measured(room, f"cameras:000.png,004.png={METRES * units:.9f}+-0.05")
    assert scale.metres_per_unit == pytest.approx(METRES)
    assert scale.relative_uncertainty == pytest.approx(0.05 / (METRES * units))
    assert "cameras 000.png,004.png" in scale.source


def test_distance_between_points(room: Scan) -> None:
    pixels = (60, 40), (130, 100)
    first = room_points(room.camera, room_pose(0))[pixels[0][1], pixels[0][0]]
    second = room_points(room.camera, room_pose(2))[pixels[1][1], pixels[1][0]]
    metres = METRES * np.linalg.norm(first - second)
    scale = measured(room, f"points:000.png,60.5,40.5,002.png,130.5,100.5={metres}+-0")
    assert scale.metres_per_unit == pytest.approx(METRES, rel=0.02)  # depth is coarse
    assert 0 <= scale.relative_uncertainty < 0.05


def test_depth_of_a_few_frames(room: Scan, tmp_path: Path) -> None:
    for index in (1, 2, 4):
        depth = np.rint(1000 * METRES * room_depth(room.camera, room_pose(index)))
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), depth.astype(np.uint16))
    scale = measured(room, f"depth:{tmp_path}")
    assert scale.metres_per_unit == pytest.approx(METRES, rel=5e-3)
    assert scale.relative_uncertainty < 5e-3
    assert scale.source.startswith("depth of 3 frames")


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_track(noise: float, room: Scan, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        [
            frame.timestamp,
            *(METRES * frame.camera_to_world[[2, 0, 1], 3] + noise * rng.normal(size=3)),
        ]
        for frame in room.frames
    ]
    np.savetxt(tmp_path / "gps.txt", rows)
    scale = measured(room, f"track:{tmp_path / 'gps.txt'}")
    assert scale.metres_per_unit == pytest.approx(METRES, rel=1e-9 if noise == 0 else 0.1)
    assert (scale.relative_uncertainty > 0.01) == (noise > 0)


def test_unknown_forgets(room: Scan) -> None:
    scan = write_scale(room, MetricScale(2.0, 0.1, "a guess"))
    assert scan.scale == MetricScale(2.0, 0.1, "a guess")
    assert measure_scale(scan, "unknown") is None
    assert write_scale(scan, None).scale is None


@pytest.mark.parametrize(
    "known",
    [
        "2.5",
        "cameras:000.png,004.png",
        "cameras:000.png,004.png=far",
        "cameras:000.png,004.png=-1",
        "cameras:000.png,000.png=1",
        "cameras:000.png,nobody.png=1",
        "points:000.png,1,2=1",
        "points:000.png,a,b,001.png,1,2=1",
        "points:000.png,-900,2,001.png,1,2=1",
    ],
)
def test_what_cannot_be_read(known: str, room: Scan) -> None:
    with pytest.raises(ConfigError):
        measure_scale(room, known)


@pytest.mark.parametrize("known", ["depth:{}", "track:{}/none.txt", "track:{}/short.txt"])
def test_files_that_say_nothing(known: str, room: Scan, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("100 0 0 0\n101 1 0 0\n")
    with pytest.raises(SourceError):
        measure_scale(room, known.format(tmp_path))


def test_every_export_says_the_scale(room: Scan, tmp_path: Path) -> None:
    assert main(["scale", str(room.path), "cameras:000.png,004.png=1.0"]) == 0
    scan = Scan.open(room.path)
    assert scan.scale is not None
    line = f"metres per unit: {scan.scale.metres_per_unit:.9g} "
    export_tum(scan, tmp_path / "trajectory.txt")
    assert f"# {line}" in (tmp_path / "trajectory.txt").read_text()
    assert len(read_tum(tmp_path / "trajectory.txt")[0]) == len(scan)
    export_ply(scan, tmp_path / "cloud.ply")
    assert f"comment {line}".encode() in (tmp_path / "cloud.ply").read_bytes()
    export_colmap(scan, tmp_path / "project")
    report = json.loads((tmp_path / "project/report.json").read_text())
    assert report["metres_per_unit"] == scan.scale.metres_per_unit
    assert report["scale"].startswith(line)
    assert pycolmap.Reconstruction(tmp_path / "project/sparse/0").num_images() == len(scan)


def test_refining_measures_the_refined_scan(room: Scan, tmp_path: Path) -> None:
    known = "cameras:000.png,004.png=1.0"
    refined = refine(RefineConfig(room.path, tmp_path / "refined", scale=known))
    assert refined.complete
    assert refined.scale == measure_scale(refined, known)
    with pytest.raises(ConfigError, match="cannot read the scale"):
        refine(RefineConfig(room.path, tmp_path / "never", scale="big"))
    assert not (tmp_path / "never").exists()


def test_a_bad_length_leaves_the_scan_alone(room: Scan, capsys: pytest.CaptureFixture[str]) -> None:
    before = (room.path / "scan.json").read_bytes()
    assert main(["scale", str(room.path), "cameras:000.png"]) == 1
    assert "mem3r: error: cannot read the scale" in capsys.readouterr().err
    assert (room.path / "scan.json").read_bytes() == before
    assert issubclass(ConfigError, Mem3RError)


def rescaled(room: Scan, folder: Path, factor: float, noise: float = 0.0) -> Scan:
    """The same scan in another unit, its depth off by a random factor from frame to frame."""
    rng = np.random.default_rng(0)

    def edit(estimate: FrameEstimate) -> FrameEstimate:
        pose = estimate.camera_to_world.copy()
        pose[:3, 3] *= factor
        off = factor * np.exp(noise * rng.normal())
        return replace(estimate, camera_to_world=pose, depth=(off * estimate.depth).astype("f4"))

    return make_room_scan(folder, frames=len(room), edit=edit)


@given(factor=st.floats(0.2, 5))
@settings(max_examples=8)
def test_a_known_scale_is_carried_over(
    factor: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("carried")
    room = make_room_scan(folder / "room")
    scan = write_scale(room, MetricScale(METRES, 0.02, "a rope"))
    carried = carry_scale(scan, rescaled(room, folder / "refined", factor))
    assert carried is not None
    assert carried.metres_per_unit == pytest.approx(METRES / factor, rel=5e-3)
    assert carried.relative_uncertainty == pytest.approx(0.02, rel=0.1)
    assert carried.source == "a rope"


def test_what_the_units_do_not_tell_makes_the_scale_less_certain(
    room: Scan, tmp_path: Path
) -> None:
    scan = write_scale(room, MetricScale(METRES, 0.02, "a rope"))
    spoilt = rescaled(room, tmp_path / "spoilt", 2.0, noise=0.1)
    still = np.eye(4)
    spoilt.frames = tuple(replace(frame, camera_to_world=still) for frame in spoilt.frames)
    carried = carry_scale(scan, spoilt)
    assert carried is not None
    assert carried.metres_per_unit == pytest.approx(METRES / 2, rel=0.2)
    assert 0.04 < carried.relative_uncertainty < 0.3


def test_an_unknown_scale_stays_unknown(room: Scan, tmp_path: Path) -> None:
    assert carry_scale(room, rescaled(room, tmp_path / "refined", 2.0)) is None


def test_refining_keeps_the_scale_unless_told_otherwise(room: Scan, tmp_path: Path) -> None:
    write_scale(room, MetricScale(METRES, 0.02, "a rope"))
    kept = refine(RefineConfig(room.path, tmp_path / "kept"))
    assert kept.scale is not None and kept.scale.source == "a rope"
    assert kept.scale.metres_per_unit == pytest.approx(METRES)
    assert refine(RefineConfig(room.path, tmp_path / "not", scale="unknown")).scale is None
