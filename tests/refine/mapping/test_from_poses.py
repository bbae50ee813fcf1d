"""Maps from predicted poses, some of which are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from mem3r_plugin.evaluation import trajectory_errors
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix
from mem3r_plugin.refine.mapping import from_poses
from mem3r_plugin.refine.mapping.incremental import mapping_options
from tests.refine import drive


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("drive") / "drive.db"
    drive.photograph(file)
    return file


def position_error(model: pycolmap.Reconstruction) -> float:
    """RMSE in metres after similarity alignment."""
    images = sorted(model.images.values(), key=lambda image: image.name)
    matrices = np.stack([image.cam_from_world().matrix() for image in images])
    found = invert_pose(pose_matrix(matrices[..., :3], matrices[..., 3]))
    return trajectory_errors(found, np.stack(list(drive.poses().values()))).ate_rmse


def strays(model: pycolmap.Reconstruction, cache: pycolmap.DatabaseCache) -> set[str]:
    found = from_poses._strays(model, cache, from_poses._held(model, cache))
    return {model.images[image].name for image in found}


@pytest.mark.parametrize("behind", [0.0, 2.0, 8.0])
def test_one_picture_predicted_too_far_behind_does_no_harm(database: Path, behind: float) -> None:
    predicted = drive.poses()
    predicted[0][2, 3] -= behind
    model = from_poses.map_from_poses(database, predicted, refine_camera=False)
    assert model is not None
    assert position_error(model) < 0.02


def test_a_stray_is_seen_and_placed_by_what_the_others_see(database: Path) -> None:
    """The map as it is where adjusting has not helped; far points agree with the stray wherever it is."""
    predicted = drive.poses()
    predicted[0][2, 3] -= 8.0
    with pycolmap.Database.open(database) as opened:
        cache = pycolmap.DatabaseCache.create(opened, pycolmap.DatabaseCacheOptions())
    model = from_poses._posed(cache, predicted)
    assert model is not None
    mapper = pycolmap.IncrementalMapper(cache)
    mapper.begin_reconstruction(model)
    options = mapping_options(refine_camera=False)
    from_poses._triangulate(mapper, model, options.triangulation)
    assert "000000.png" in strays(model, cache)
    assert position_error(model) > 0.1
    from_poses._place_strays(mapper, model, cache, options, refine_camera=False)
    mapper.end_reconstruction(False)
    assert not strays(model, cache)
    assert model.num_reg_images() == drive.FRAMES
    assert position_error(model) < 0.02
