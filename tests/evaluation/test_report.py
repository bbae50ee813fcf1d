from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mem3r_plugin.errors import ScanError
from mem3r_plugin.evaluation import PROTOCOLS, Protocol, evaluate, load_sequence
from mem3r_plugin.evaluation.scan import posed_frames
from mem3r_plugin.refine.depth.sequence import CONFIDENT
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.evaluation.room_sequence import SCALE, write_room_sequence
from tests.room_scan import make_room_scan


def spoil_the_rim(estimate: FrameEstimate) -> FrameEstimate:
    """Depth is doubled where confidence is low, which is a tenth of the picture."""
    low = estimate.confidence < np.quantile(estimate.confidence, 0.1)
    return replace(estimate, depth=np.where(low, 2 * estimate.depth, estimate.depth))


def test_a_perfect_scan(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    report = json.loads(json.dumps(evaluate(scan, load_sequence(tmp_path / "truth"))))
    assert (report["frames"], report["frames_without_truth"]) == (6, 0)
    (result,) = report["results"]
    assert result["trajectory"]["ate_rmse"] < 1e-9
    assert result["trajectory"]["scale"] == pytest.approx(SCALE)
    assert result["depth"]["scaled"]["abs_rel"] < 5e-3
    # The scan's unit is not the truth's: taken as metres, its depth is short by the scale.
    assert result["depth"]["metric"]["abs_rel"] == pytest.approx(1 - 1 / SCALE, abs=5e-3)
    assert result["depth"]["coverage"] == pytest.approx(0.9, abs=0.01)  # the network crops
    assert result["reconstruction"]["chamfer"] < 0.01 * SCALE


def test_confident_pixels_are_measured_by_themselves(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}", edit=spoil_the_rim)
    sequence = load_sequence(tmp_path / "truth")
    (result,) = evaluate(scan, sequence, Protocol(("depth",)))["results"]
    assert result["depth"]["scaled"]["abs_rel"] > 0.05
    assert result["depth"]["most_confident"]["abs_rel"] < 0.02  # the doubled pixels move the scale
    share = result["depth"]["most_confident"]["pixels"] / result["depth"]["scaled"]["pixels"]
    assert share * result["depth"]["coverage"] == pytest.approx(0.7, abs=1e-3)


def two_views_confirm_the_rest(estimate: FrameEstimate) -> FrameEstimate:
    """Confidence as a refinement gives it: 3 where two other views confirm the depth."""
    spoilt = spoil_the_rim(estimate)
    good = spoilt.depth == estimate.depth
    return replace(spoilt, confidence=np.where(good, CONFIDENT, 2).astype(np.float32))


def test_confident_is_what_other_views_confirm(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}", edit=two_views_confirm_the_rest)
    (result,) = evaluate(scan, load_sequence(tmp_path / "truth"), Protocol(("depth",)))["results"]
    depth = result["depth"]
    assert depth["confident"]["abs_rel"] < 0.02
    assert depth["confident_share"] == pytest.approx(0.9 * depth["coverage"], abs=0.01)


def test_no_pixel_may_be_confident(tmp_path: Path) -> None:
    def unsure(estimate: FrameEstimate) -> FrameEstimate:
        return replace(estimate, confidence=np.full_like(estimate.confidence, 1.5))

    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}", edit=unsure)
    (result,) = evaluate(scan, load_sequence(tmp_path / "truth"), Protocol(("depth",)))["results"]
    assert (result["depth"]["confident"], result["depth"]["confident_share"]) == (None, 0)
    assert result["depth"]["least_absolute"]["confident"] is None


def test_both_scales_are_told(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    (result,) = evaluate(scan, load_sequence(tmp_path / "truth"), Protocol(("depth",)))["results"]
    fitted = result["depth"]["least_absolute"]["scaled"]
    assert fitted["scale"] == pytest.approx(SCALE, rel=5e-3)
    assert result["depth"]["scaled"]["scale"] == pytest.approx(SCALE, rel=5e-3)
    assert fitted["abs_rel"] < 5e-3


def test_lengths_are_beginnings_of_the_scan(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth", depth=False)
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    sequence = load_sequence(tmp_path / "truth")
    report = evaluate(scan, sequence, Protocol(("trajectory",), (3, 5, 9), stride=1))
    assert [result["frames"] for result in report["results"]] == [3, 5]
    assert all(set(result) == {"frames", "trajectory"} for result in report["results"])
    with pytest.raises(ScanError, match="6 frames; the protocol compares the first 50"):
        evaluate(scan, sequence, PROTOCOLS["tum-long"])


def test_a_stride_that_is_not_the_protocols(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    with pytest.raises(ScanError, match="--stride 3"):
        evaluate(scan, load_sequence(tmp_path / "truth"), PROTOCOLS["scannet-long"])


def test_frames_without_a_true_pose_are_left_out(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    sequence = load_sequence(tmp_path / "truth")
    sequence.camera_to_world[2] = np.nan
    report = evaluate(scan, sequence, Protocol(("trajectory",)))
    assert report["frames_without_truth"] == 1
    assert report["results"][0]["trajectory"]["frames"] == 5
    assert report["results"][0]["trajectory"]["ate_rmse"] < 1e-9
    sequence.camera_to_world[1:] = np.nan
    with pytest.raises(ScanError, match="pose of 1 of the 6 frames"):
        posed_frames(scan, sequence)
