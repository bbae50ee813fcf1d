"""Structure from motion over the keyframes: tracks, poses and one camera."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import pose_matrix

_FOCAL_RANGE = (0.3, 4.0)  # in long sides of the picture; beyond, a model explains nothing
_ENOUGH = 0.95  # share of the keyframes in one model that needs no second attempt


@dataclass(frozen=True, eq=False)
class SparseMap:
    """One rigid piece of the scan: posed frames and the points they see."""

    camera: Intrinsics
    """The camera of all frames, in the pixels of the pictures."""
    poses: dict[int, FloatArray]
    """`camera_to_world` (4, 4) of the frames, by frame index."""
    points: FloatArray
    """World coordinates, shape (P, 3)."""
    sightings: dict[int, tuple[NDArray[np.int64], FloatArray]]
    """For every frame the rows of the points it sees, (M,), and its pixels there, (M, 2)."""
    reprojection_error: float
    """Mean over all observations, in pixels."""
    track_length: float
    """Mean number of frames that see a point."""


def map_keyframes(
    database: Path, pictures: Path, workspace: Path, camera: Intrinsics, known: bool
) -> list[SparseMap]:
    """Incremental mapping of the matched pictures, largest piece first.

    COLMAP's usual thresholds come first; where they leave keyframes out, a second attempt with lower
    ones may start from narrower baselines and register pictures by fewer points. The attempt
    with more keyframes in its largest piece wins.

    Args:
        database: COLMAP database with features and verified matches.
        pictures: Folder of the pictures; a file's stem is the index of its frame.
        workspace: Where pycolmap may write.
        camera: Gives the pictures' size, and the whole camera where it is `known`.
        known: Whether the camera is kept as it is.

    Returns:
        No piece at all where the pictures show too little.
    """
    with pycolmap.Database.open(database) as opened:
        wanted = _ENOUGH * opened.num_images()
    best: list[pycolmap.Reconstruction] = []
    for options in (_options(known), _lenient(_options(known))):
        models = _map(database, pictures, workspace, options)
        if not best or (models and models[0].num_reg_images() > best[0].num_reg_images()):
            best = models
        if best and best[0].num_reg_images() >= wanted:
            break
    for model in best:
        _adjust(model, known)
    return [_sparse_map(model, camera) for model in best]


def _map(
    database: Path, pictures: Path, workspace: Path, options: pycolmap.IncrementalPipelineOptions
) -> list[pycolmap.Reconstruction]:
    pycolmap.set_random_seed(0)
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    models = pycolmap.incremental_mapping(database, pictures, workspace, options)
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def _options(known: bool) -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = 0
    options.extract_colors = False
    options.min_model_size = 3
    low, high = _FOCAL_RANGE
    for part in (options, options.mapper, options.triangulation):
        part.min_focal_length_ratio = low
        part.max_focal_length_ratio = high
    options.ba_refine_focal_length = not known
    options.mapper.abs_pose_refine_focal_length = not known
    return options


def _lenient(options: pycolmap.IncrementalPipelineOptions) -> pycolmap.IncrementalPipelineOptions:
    options.mapper.init_min_num_inliers = 40
    options.mapper.init_min_tri_angle = 4.0
    options.mapper.abs_pose_min_num_inliers = 15
    options.mapper.abs_pose_min_inlier_ratio = 0.15
    options.mapper.filter_min_tri_angle = 0.75
    options.triangulation.min_angle = 0.75
    return options


def _adjust(model: pycolmap.Reconstruction, known: bool) -> None:
    """Bundle adjustment of the whole model with a robust loss."""
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = not known
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = 1.0
    options.ceres.solver_options.max_num_iterations = 50
    chosen = pycolmap.BundleAdjustmentConfig()
    for image in model.reg_image_ids():
        chosen.add_image(image)
    chosen.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, chosen, model).solve()
    model.update_point_3d_errors()


def _sparse_map(model: pycolmap.Reconstruction, camera: Intrinsics) -> SparseMap:
    (refined,) = model.cameras.values()
    matrix = refined.calibration_matrix()
    ids = sorted(model.points3D)
    rows = {point: row for row, point in enumerate(ids)}
    poses, sightings = {}, {}
    for image in model.images.values():
        if not image.has_pose:
            continue
        index = int(Path(image.name).stem)
        inverse = image.cam_from_world().inverse()
        poses[index] = pose_matrix(inverse.rotation.matrix(), inverse.translation)
        seen = image.get_observation_points2D()
        sightings[index] = (
            np.array([rows[point.point3D_id] for point in seen], np.int64),
            np.array([point.xy for point in seen], np.float64).reshape(-1, 2),
        )
    return SparseMap(
        camera=Intrinsics(
            matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], camera.width, camera.height
        ),
        poses=poses,
        points=np.array([model.points3D[point].xyz for point in ids]).reshape(-1, 3),
        sightings=sightings,
        reprojection_error=model.compute_mean_reprojection_error(),
        track_length=model.compute_mean_track_length(),
    )
