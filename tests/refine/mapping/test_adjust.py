import numpy as np
import pycolmap
import pytest

from mem3r_plugin.refine.mapping.adjust import (
    adjust,
    drop_outliers,
    feature_noise,
    with_principal_point,
)
from mem3r_plugin.refine.mapping.priors import PositionPriors
from mem3r_plugin.refine.mapping.structure import pose_priors
from tests.refine.sphere import photograph

WEAK = 3


@pytest.fixture
def model(tmp_path):
    """A noisy sphere in which one picture sees a few points only, badly."""
    model = photograph(tmp_path, frames=10).model
    (image,) = (image for image in model.images.values() if image.name == f"{WEAK:06d}.png")
    seen = image.get_observation_point2D_idxs()
    for index in seen[5:]:
        model.delete_observation(image.image_id, index)
    rng = np.random.default_rng(0)
    for index in seen[:5]:
        image.points2D[index].xy = image.points2D[index].xy + rng.normal(scale=3, size=2)
    return model


def centres(model):
    return {int(image.name[:6]): image.projection_center() for image in model.images.values()}


def weak_error(model, truth):
    """Of the weak picture's place, after the others have been brought together."""
    found = centres(model)
    others = [frame for frame in truth if frame != WEAK]
    to_truth = pycolmap.estimate_sim3d(
        np.stack([found[frame] for frame in others]), np.stack([truth[frame] for frame in others])
    )
    return np.linalg.norm(to_truth * found[WEAK] - truth[WEAK])


def priors_at(places, deviation):
    return PositionPriors(places, deviation, indifferent=1.0, step=1.0)


def test_the_noise_of_the_features_is_found(tmp_path):
    model = photograph(tmp_path).model
    adjust(model, refine_camera=True)
    assert feature_noise(model) == pytest.approx(0.3, rel=0.1)


def test_good_priors_hold_a_picture_that_sees_too_little(model):
    truth = centres(model)
    alone, held = pycolmap.Reconstruction(model), pycolmap.Reconstruction(model)
    adjust(alone, refine_camera=True)
    adjust(held, True, pose_priors(held, priors_at(truth, 0.005)))
    assert weak_error(held, truth) < 0.01
    assert weak_error(held, truth) < 0.5 * weak_error(alone, truth)


def test_priors_of_no_weight_change_nothing(model):
    truth = centres(model)
    alone, held = pycolmap.Reconstruction(model), pycolmap.Reconstruction(model)
    adjust(alone, refine_camera=True)
    rng = np.random.default_rng(0)
    garbage = {frame: rng.normal(scale=5, size=3) for frame in truth}
    adjust(held, True, pose_priors(held, priors_at(garbage, 5.0)))
    assert weak_error(held, truth) == pytest.approx(weak_error(alone, truth), rel=0.2)
    others = [image for image in held.images if int(held.images[image].name[:6]) != WEAK]
    to_alone = pycolmap.align_reconstructions_via_proj_centers(held, alone, 0.1)
    for image in others:
        moved = to_alone * held.images[image].projection_center()
        assert np.linalg.norm(moved - alone.images[image].projection_center()) < 1e-3


def test_outliers_are_dropped_and_nothing_else(tmp_path):
    model = photograph(tmp_path).model
    adjust(model, refine_camera=True)
    before = model.compute_num_observations()
    image = model.images[1]
    for index in image.get_observation_point2D_idxs()[:20]:
        image.points2D[index].xy += np.array([0, 30])
    adjust(model, refine_camera=True)
    drop_outliers(model)
    assert model.compute_num_observations() == before - 20
    assert model.compute_mean_reprojection_error() < 0.5


def test_pictures_that_do_not_fix_the_principal_point_leave_it_alone(tmp_path):
    model = photograph(tmp_path, frames=3, points=12).model
    adjust(model, refine_camera=True)
    assert with_principal_point(model) is None
