from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mem3r_plugin.errors import ScanError
from mem3r_plugin.evaluation import load_sequence, reconstruction_errors
from mem3r_plugin.evaluation.reconstruction import align_by_icp, scan_reconstruction_errors
from mem3r_plugin.geometry.pose import rotation_from_quaternion
from tests.evaluation.room_sequence import SCALE, write_room_sequence
from tests.room_scan import make_room_scan


def grid(height: float, cells: int = 60) -> np.ndarray:
    """Points of a unit square at some height, shape (cells², 3)."""
    x, y = np.meshgrid(np.linspace(0, 1, cells), np.linspace(0, 1, cells))
    return np.stack([x, y, np.full_like(x, height)], axis=-1).reshape(-1, 3)


def test_two_parallel_squares() -> None:
    errors = reconstruction_errors(grid(0.1), grid(0.0))
    assert errors.accuracy == errors.completeness == pytest.approx(0.1)
    assert errors.chamfer == pytest.approx(0.1)
    assert errors.normal_consistency == pytest.approx(1)
    assert errors.points == errors.true_points == 3600


def test_half_a_square_is_accurate_but_not_complete() -> None:
    whole = grid(0.0)
    half = whole[whole[:, 0] < 0.5]
    errors = reconstruction_errors(half, whole)
    assert errors.accuracy == errors.accuracy_median == 0
    # The missing half lies 0 to 0.5 away, a quarter on average, and is half of the points.
    assert errors.completeness == pytest.approx(0.125, abs=0.01)
    assert errors.chamfer == pytest.approx(errors.completeness / 2)


def test_perpendicular_squares_have_perpendicular_normals() -> None:
    upright = grid(0.0)[:, [0, 2, 1]]
    assert reconstruction_errors(grid(0.0), upright).normal_consistency < 0.05


def test_icp_undoes_a_small_motion_and_leaves_out_what_has_no_counterpart() -> None:
    corner = np.random.default_rng(1).uniform(0, 1, (6000, 3))
    corner[np.arange(6000), np.arange(6000) % 3] = 0  # three walls
    turn = rotation_from_quaternion([1.0, 0.02, -0.01, 0.015])
    moved = corner @ turn.T + [0.02, -0.01, 0.015]
    stray = np.random.default_rng(0).uniform(2, 3, (300, 3))
    aligned = align_by_icp(np.concatenate([moved, stray]), corner)
    before = np.linalg.norm(moved - corner, axis=1).mean()
    after = np.linalg.norm(aligned[: len(moved)] - corner, axis=1).mean()
    assert after < 0.3 * before


def test_a_perfect_scan_fits_the_room_in_its_unit(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", name="{:06d}")
    frames = np.arange(6)
    errors = scan_reconstruction_errors(scan, load_sequence(tmp_path / "truth"), frames, frames)
    assert errors.chamfer < 0.01 * SCALE
    assert errors.normal_consistency > 0.9


def test_pictures_of_another_size(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "truth")
    scan = make_room_scan(tmp_path / "room", size=(100, 80), name="{:06d}")
    with pytest.raises(ScanError, match="another size"):
        scan_reconstruction_errors(
            scan, load_sequence(tmp_path / "truth"), np.arange(6), np.arange(6)
        )
