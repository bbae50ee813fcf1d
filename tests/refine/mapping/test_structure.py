import shutil

import numpy as np
import pycolmap
import pytest

from mem3r_plugin.evaluation import trajectory_errors
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.mapping import structure
from mem3r_plugin.refine.mapping.structure import (
    MappingConfig,
    map_keyframes,
    straighten_if_incredible,
)
from tests.refine.sphere import FOCAL, perturbed, photograph


def mapped(sphere, tmp_path, predicted=None, config=None):
    work = tmp_path / "work"
    (piece,) = map_keyframes(sphere.database, tmp_path, work, False, predicted, config)
    return piece


def position_error(piece, sphere):
    """RMSE after similarity alignment, in shares of the path."""
    frames = sorted(sphere.poses)
    assert sorted(piece.poses) == frames
    errors = trajectory_errors(
        np.stack([piece.poses[frame] for frame in frames]),
        np.stack([sphere.poses[frame] for frame in frames]),
    )
    return errors.ate_rmse / errors.path_length


@pytest.fixture(scope="module")
def sphere(tmp_path_factory):
    return photograph(tmp_path_factory.mktemp("sphere"), principal_point=(327.0, 233.0))


@pytest.fixture(scope="module")
def without_prediction(sphere, tmp_path_factory):
    return mapped(sphere, tmp_path_factory.mktemp("plain"))


def test_poses_focal_and_principal_point_are_found(sphere, without_prediction):
    piece = without_prediction
    assert piece.way == "incremental"
    assert position_error(piece, sphere) < 5e-4
    camera = piece.camera
    assert [camera.fx, camera.cx, camera.cy] == pytest.approx([FOCAL, 327, 233], abs=1.5)
    assert piece.prior_deviation is None
    assert piece.undistortion is None
    assert piece.bend < 1


def test_sightings_are_those_of_their_points(without_prediction):
    piece, errors = without_prediction, []
    for frame, (rows, pixels) in piece.sightings.items():
        seen = np.linalg.inv(piece.poses[frame]) @ np.c_[piece.points[rows], np.ones(len(rows))].T
        errors.append(np.linalg.norm(piece.camera.project(seen[:3].T) - pixels, axis=1))
    every = np.concatenate(errors)
    assert every.mean() == pytest.approx(piece.reprojection_error, rel=1e-3)
    assert every.mean() < 1
    assert len(every) / len(piece.points) == pytest.approx(piece.track_length)
    assert every.max() < 2  # what lies farther out has been dropped


def test_predicted_poses_near_the_truth_are_the_way(sphere, tmp_path, monkeypatch):
    monkeypatch.setattr(structure, "map_incrementally", lambda *_: pytest.fail("not needed"))
    piece = mapped(sphere, tmp_path, perturbed(sphere.poses, degrees=2, share=0.02))
    assert piece.way == "predicted"
    assert position_error(piece, sphere) < 5e-4
    assert piece.camera.fx == pytest.approx(FOCAL, rel=0.003)


def test_predicted_poses_far_from_the_truth_change_nothing(sphere, without_prediction, tmp_path):
    piece = mapped(sphere, tmp_path, perturbed(sphere.poses, degrees=60, share=1.0))
    assert piece.way == "incremental"
    assert piece.prior_deviation is None
    for frame, pose in without_prediction.poses.items():
        assert np.array_equal(piece.poses[frame], pose)


def test_one_wrong_pose_among_good_ones_does_no_harm(sphere, tmp_path):
    piece = mapped(sphere, tmp_path, {**sphere.poses, 5: sphere.poses[0]})
    assert position_error(piece, sphere) < 5e-4


def test_parts_that_share_no_points_are_no_rigid_piece(sphere, tmp_path):
    database = tmp_path / "parts.db"
    shutil.copyfile(sphere.database, database)
    with pycolmap.Database.open(database) as opened:
        parts = {image.image_id: int(image.name[:6]) < 6 for image in opened.read_all_images()}
        for first in parts:
            for second in parts:
                if parts[first] and not parts[second]:
                    opened.delete_two_view_geometry(first, second)
    maps = map_keyframes(database, tmp_path, tmp_path / "work", False, sphere.poses)
    assert [len(piece.poses) for piece in maps] == [6, 6]
    assert maps[0].camera == maps[1].camera


def test_a_known_camera_is_kept(sphere, tmp_path):
    with pycolmap.Database.open(sphere.database) as database:
        (before,) = database.read_all_cameras()
        known = pycolmap.Camera(before.todict())
        known.model = pycolmap.CameraModelId.PINHOLE
        known.params = [FOCAL, FOCAL, 327.0, 233.0]
        database.update_camera(known)
    try:
        (piece,) = map_keyframes(sphere.database, tmp_path, tmp_path / "work", known=True)
    finally:
        with pycolmap.Database.open(sphere.database) as database:
            database.update_camera(before)
    assert piece.camera == Intrinsics(FOCAL, FOCAL, 327.0, 233.0, 640, 480)
    assert position_error(piece, sphere) < 5e-4


@pytest.mark.parametrize("radial", ["never", "auto", "always"])
def test_bent_pictures_are_noticed_and_put_right(radial, tmp_path):
    bent = photograph(tmp_path, radial=-0.05)
    piece = mapped(bent, tmp_path, config=MappingConfig(radial=radial))
    if radial == "never":
        assert piece.undistortion is None
        assert piece.bend > 3
        return
    assert piece.bend == 0
    assert piece.undistortion is not None
    assert piece.undistortion.radial == pytest.approx(-0.05, abs=0.005)
    assert piece.undistortion.camera == piece.camera
    assert position_error(piece, bent) < 5e-4
    rows, pixels = piece.sightings[0]
    seen = np.linalg.inv(piece.poses[0]) @ np.c_[piece.points[rows], np.ones(len(rows))].T
    assert np.abs(piece.camera.project(seen[:3].T) - pixels).max() < 3


def test_distortions_that_no_lens_has_are_not_believed(tmp_path):
    model = photograph(tmp_path).model
    (camera,) = model.cameras.values()
    camera.params = [FOCAL, 320.0, 240.0, -0.9]
    straighten_if_incredible(model)
    assert camera.model == pycolmap.CameraModelId.SIMPLE_PINHOLE
    assert camera.params == pytest.approx([FOCAL, 320, 240], abs=2)
