"""Maps in which nothing hands the scale on from one part to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from mem3r_plugin.geometry.pose import invert_pose, pose_matrix
from mem3r_plugin.refine.mapping.from_poses import map_from_poses
from mem3r_plugin.refine.mapping.scale_breaks import scale_breaks, split_at_scale_breaks
from mem3r_plugin.refine.mapping.structure import map_keyframes
from tests.refine import drive

MIDDLE = drive.FRAMES // 2


def mapped(folder: Path, predicted: dict[int, np.ndarray], bare: bool) -> pycolmap.Reconstruction:
    drive.photograph(folder / "drive.db", bare)
    model = map_from_poses(folder / "drive.db", predicted, refine_camera=False)
    assert model is not None
    return model


def steps(model: pycolmap.Reconstruction) -> np.ndarray:
    """Lengths of the way from each picture to the next."""
    images = sorted(
        (image for image in model.images.values() if image.has_pose), key=lambda image: image.name
    )
    matrices = np.stack([image.cam_from_world().matrix() for image in images])
    found = invert_pose(pose_matrix(matrices[..., :3], matrices[..., 3]))
    return np.linalg.norm(np.diff(found[:, :3, 3], axis=0), axis=1)


def half_too_large() -> dict[int, np.ndarray]:
    """The truth, but the first half of the way four times as long."""
    predicted = drive.poses()
    for frame in range(MIDDLE + 1):
        predicted[frame][2, 3] = MIDDLE + 4.0 * (frame - MIDDLE)
    return predicted


def test_a_map_of_one_scale_is_left_as_it_is(tmp_path: Path) -> None:
    model = mapped(tmp_path, drive.poses(), bare=False)
    assert scale_breaks(model, sorted(model.images)) == []
    (whole,) = split_at_scale_breaks(model)
    assert whole is model


def test_triplets_hand_the_scale_on(tmp_path: Path) -> None:
    drive.photograph(tmp_path / "drive.db", brief=True)
    model = map_from_poses(tmp_path / "drive.db", drive.poses(), refine_camera=False)
    assert model is not None
    assert max(point.track.length() for point in model.points3D.values()) == 3
    assert scale_breaks(model, sorted(model.images)) == []


def test_a_map_of_two_scales_is_taken_apart(tmp_path: Path) -> None:
    model = mapped(tmp_path, half_too_large(), bare=True)
    assert model.num_reg_images() == drive.FRAMES  # every picture is explained, and yet:
    whole = steps(model)
    assert whole[:MIDDLE].mean() > 3 * whole[MIDDLE:].mean()
    parts = split_at_scale_breaks(model)
    assert sum(part.num_reg_images() for part in parts) == drive.FRAMES
    assert min(part.num_reg_images() for part in parts) >= MIDDLE - 1
    assert model.num_reg_images() == drive.FRAMES
    for part in parts:
        assert steps(part) == pytest.approx(steps(part).mean(), rel=0.05)
        assert part.num_points3D() > 50
        assert part.compute_mean_reprojection_error() < 0.5


@pytest.mark.parametrize("known", [True, False])
def test_each_part_becomes_a_piece_of_its_own(tmp_path: Path, known: bool) -> None:
    drive.photograph(tmp_path / "drive.db", bare=True)
    pieces = map_keyframes(tmp_path / "drive.db", tmp_path, tmp_path, known, half_too_large())
    assert [piece.way for piece in pieces] == ["predicted"] * 2
    assert sorted(frame for piece in pieces for frame in piece.poses) == list(range(drive.FRAMES))
    assert all(len(piece.sightings) == len(piece.poses) for piece in pieces)


def test_near_points_pull_a_wrong_scale_right(tmp_path: Path) -> None:
    """So what is taken apart is what nothing could have pulled right."""
    predicted = drive.poses()
    for frame in range(MIDDLE):
        predicted[frame][2, 3] = MIDDLE + 1.2 * (frame - MIDDLE)
    model = mapped(tmp_path, predicted, bare=False)
    assert steps(model) == pytest.approx(steps(model).mean(), rel=0.02)
