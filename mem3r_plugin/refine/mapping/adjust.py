"""Bundle adjustment whose robustness, camera and priors follow from its own residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycolmap

from mem3r_plugin.geometry.camera import FloatArray

_CAUCHY = 2.385  # in standard deviations; 95 % efficient where the noise is normal (Huber, 1981)
_PIXELS = (0.1, 2.0)  # what a feature's standard deviation is believed to lie between
_OUTLIER = 5.0  # in standard deviations of one coordinate, yet not below one pixel
_SURE = 0.005  # standard deviation of a principal point that is known, in long sides
_CENTRAL = 0.04  # how far real principal points are off the middle at most, in long sides
_ITERATIONS = 50


def adjust(
    model: pycolmap.Reconstruction,
    refine_camera: bool,
    priors: Sequence[pycolmap.PosePrior] = (),
    principal_point: bool = False,
) -> pycolmap.CeresBundleAdjuster:
    """Poses, points and camera of a model at their robust optimum; points' errors are kept up.

    The width of the Cauchy loss follows from the residuals that are there.

    Args:
        model: Is changed in place.
        refine_camera: Whether focal length and distortion are free.
        priors: Where images are thought to be, in the model's frame.
        principal_point: Whether it is free as well.

    Returns:
        The solved problem, of which covariances can be asked.
    """
    options = adjustment_options(feature_noise(model), refine_camera, principal_point)
    chosen = pycolmap.BundleAdjustmentConfig()
    for image in model.reg_image_ids():
        chosen.add_image(image)
    if not refine_camera:
        for camera in model.cameras:
            chosen.set_constant_cam_intrinsics(camera)
    if priors:
        loose = pycolmap.PosePriorBundleAdjustmentOptions()
        loose.alignment_ransac.random_seed = 0
        loose.ceres.prior_position_loss_function_type = pycolmap.LossFunctionType.CAUCHY
        adjuster = pycolmap.create_pose_prior_ceres_bundle_adjuster(
            options, loose, chosen, list(priors), model
        )
    else:
        chosen.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, chosen, model)
    adjuster.solve()
    model.update_point_3d_errors()
    return adjuster


def adjustment_options(
    noise: float, refine_camera: bool, principal_point: bool = False
) -> pycolmap.BundleAdjustmentOptions:
    """Options of a robust bundle adjustment for features of this standard deviation in pixels."""
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = refine_camera
    options.refine_principal_point = principal_point
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = _CAUCHY * noise
    solver = options.ceres.solver_options
    solver.max_num_iterations = _ITERATIONS
    solver.function_tolerance = 1e-5
    solver.num_threads = 1  # sums in one order: the same result every time
    return options


def feature_noise(model: pycolmap.Reconstruction) -> float:
    """Standard deviation of one coordinate of the observations in pixels, from the median error."""
    errors = [point.error for point in model.points3D.values() if point.error >= 0]
    if not errors:
        return _PIXELS[1]
    return float(np.clip(np.median(errors) / np.sqrt(np.pi / 2), *_PIXELS))  # a Rayleigh mean


def with_principal_point(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction | None:
    """The model adjusted with a free principal point; None where the pictures do not fix it.

    Motion straight ahead does not tell a shifted picture from a turned camera: there the covariance
    of the answer is large, or its place is not one that a lens is mounted at.
    """
    trial = pycolmap.Reconstruction(model)
    adjuster = adjust(trial, refine_camera=True, principal_point=True)
    (camera,) = trial.cameras.values()
    covariance = _camera_covariance(trial, adjuster)
    if covariance is None:
        return None
    place = np.array(camera.principal_point_idxs())
    deviation = np.sqrt(covariance[place, place]) * feature_noise(trial)
    shift = np.abs(camera.params[place] - [camera.width / 2, camera.height / 2])
    long_side = max(camera.width, camera.height)
    sure = deviation.max() < _SURE * long_side and shift.max() < _CENTRAL * long_side
    return trial if sure else None


def bent(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """The model of a SIMPLE_PINHOLE camera adjusted with a radial coefficient (SIMPLE_RADIAL)."""
    trial = pycolmap.Reconstruction(model)
    (camera,) = trial.cameras.values()
    camera.model = pycolmap.CameraModelId.SIMPLE_RADIAL
    camera.params = [*camera.params, 0.0]
    adjust(trial, refine_camera=True)
    return trial


def drop_outliers(model: pycolmap.Reconstruction) -> None:
    """Delete observations far outside the noise, and points that are left with one."""
    limit = max(1.0, _OUTLIER * feature_noise(model))
    manager = pycolmap.ObservationManager(model)
    manager.filter_observations_with_negative_depth()
    manager.filter_points3D_with_large_reprojection_error(limit, set(model.point3D_ids()))
    model.update_point_3d_errors()


def _camera_covariance(
    model: pycolmap.Reconstruction, adjuster: pycolmap.CeresBundleAdjuster
) -> FloatArray | None:
    """Of the free parameters of the camera, residuals taken to have unit variance."""
    (camera,) = model.cameras.values()
    covariance = pycolmap.estimate_ba_covariance(pycolmap.BACovarianceOptions(), model, adjuster)
    return None if covariance is None else covariance.get_other_params_cov(camera.params)
