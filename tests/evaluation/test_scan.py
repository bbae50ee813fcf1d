from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mem3r_plugin.errors import ScanError
from mem3r_plugin.evaluation import PosedSequence, evaluate_scan, match_frames
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.evaluation.room_sequence import SCALE, write_room_sequence
from tests.room_scan import make_room_scan


@pytest.fixture
def truth(tmp_path: Path) -> PosedSequence:
    write_room_sequence(tmp_path / "truth")
    return PosedSequence.load(tmp_path / "truth")


def test_a_perfect_scan(tmp_path: Path, truth: PosedSequence) -> None:
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    result = evaluate_scan(scan, truth)
    assert result["trajectory"]["ate_rmse"] < 1e-9
    assert result["trajectory"]["scale"] == pytest.approx(SCALE)
    assert result["depth"]["abs_rel"] < 5e-3  # depth maps are coarser than the pictures
    assert result["depth"]["scale"] == pytest.approx(SCALE, rel=5e-3)
    json.dumps(result)


def test_the_baseline_stands_still_and_sees_a_wall(tmp_path: Path, truth: PosedSequence) -> None:
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    baseline = evaluate_scan(scan, truth)["baseline"]
    centres = truth.camera_to_world[:, :3, 3]
    spread = np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert baseline["trajectory"]["ate_rmse"] == pytest.approx(spread)
    assert 0.02 < baseline["depth"]["abs_rel"] < 0.2
    better = evaluate_scan(scan, truth, mean_depth=scan.depth(0))["baseline"]
    assert better["depth"]["abs_rel"] < baseline["depth"]["abs_rel"]


def spoil(estimate: FrameEstimate) -> FrameEstimate:
    """Every second frame is half again as deep and stands aside."""
    if estimate.frame.index % 2 == 0:
        return estimate
    pose = estimate.camera_to_world.copy()
    pose[1, 3] += 0.1
    return replace(estimate, camera_to_world=pose, depth=1.5 * estimate.depth)


def test_a_bad_scan_is_worse(tmp_path: Path, truth: PosedSequence) -> None:
    scan = make_room_scan(tmp_path / "room", name="{:06d}", edit=spoil)
    result = evaluate_scan(scan, truth)
    assert result["trajectory"]["ate_rmse"] > 0.05
    assert result["trajectory"]["rpe_translation"] > 0.05
    assert result["depth"]["abs_rel"] > 0.1
    assert result["depth"]["delta_125"] < 0.8


def test_sequences_without_depth(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth", depth=False)
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    result = evaluate_scan(scan, PosedSequence.load(tmp_path / "truth"))
    assert result["depth"] is None and result["baseline"]["depth"] is None
    assert result["trajectory"]["ate_rmse"] < 1e-9


def test_frames_are_matched_by_name(tmp_path: Path, truth: PosedSequence) -> None:
    scan = make_room_scan(tmp_path / "room", frames=4, name="00000{}")
    kept = scan.frames[1:]  # as if the first picture had not been in the folder
    scan.frames = tuple(replace(frame, position=frame.index - 1) for frame in kept)
    np.testing.assert_array_equal(match_frames(scan, truth), [1, 2, 3])


def test_frames_of_a_video_are_matched_by_position(tmp_path: Path, truth: PosedSequence) -> None:
    scan = make_room_scan(tmp_path / "room", kind="video", frames=3)
    scan.frames = tuple(replace(frame, position=2 * frame.index) for frame in scan.frames)
    np.testing.assert_array_equal(match_frames(scan, truth), [0, 2, 4])


def test_a_scan_of_something_else(tmp_path: Path, truth: PosedSequence) -> None:
    longer = make_room_scan(tmp_path / "longer", kind="video", frames=8)
    with pytest.raises(ScanError, match=r"frame 007 lies at position 7, .* 6 pictures"):
        evaluate_scan(longer, truth)
    other_size = make_room_scan(tmp_path / "other", size=(100, 80), name="{:06d}")
    with pytest.raises(ScanError, match="another size"):
        evaluate_scan(other_size, truth)


def test_one_frame_is_no_trajectory(tmp_path: Path, truth: PosedSequence) -> None:
    scan = make_room_scan(tmp_path / "room", frames=1, name="{:06d}")
    with pytest.raises(ScanError, match="one frame only"):
        evaluate_scan(scan, truth)
