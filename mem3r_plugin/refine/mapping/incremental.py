"""Mapping picture by picture, from nothing but verified matches."""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap

from mem3r_plugin.refine.keyframes.matching import USUAL_FOCAL

FOCAL_RANGE = (0.3, 4.0)
"""Focal lengths that are believed, in long sides of the picture; beyond, a model explains nothing."""

_ENOUGH = 0.95  # share of the pictures in one model that needs no second attempt
_POOR = 0.7  # pixels; a mean error above it may come from a wrong focal length


def map_incrementally(
    database: Path, pictures: Path, workspace: Path, refine_camera: bool
) -> list[pycolmap.Reconstruction]:
    """COLMAP's incremental mapping, at most twice; the models of the better attempt, largest first.

    COLMAP's usual thresholds come first. Where they leave pictures out or explain them badly, the
    second attempt has lower ones, may start from narrower baselines and registers pictures by
    fewer points, and it begins at the focal length usual for phones and cameras. The attempt with more
    pictures in its largest model wins; of equals, the one with more observations.

    Args:
        database: COLMAP database with features and verified matches.
        pictures: Folder of the pictures.
        workspace: Where pycolmap may write.
        refine_camera: Whether the focal length is free.
    """
    with pycolmap.Database.open(database) as opened:
        wanted = _ENOUGH * opened.num_images()
    first = _map(database, pictures, workspace, mapping_options(refine_camera))
    if first and first[0].num_reg_images() >= wanted and _mean_error(first[0]) < _POOR:
        return first
    if refine_camera:
        database = _with_usual_focal(database, workspace)
    second = _map(
        database, pictures, workspace / "second", _lenient(mapping_options(refine_camera))
    )
    return max(first, second, key=_explained)


def _mean_error(model: pycolmap.Reconstruction) -> float:
    return float(model.compute_mean_reprojection_error())


def _explained(models: list[pycolmap.Reconstruction]) -> tuple[int, int]:
    if not models:
        return 0, 0
    return models[0].num_reg_images(), models[0].compute_num_observations()


def _with_usual_focal(database: Path, workspace: Path) -> Path:
    copy = workspace / "second.db"
    shutil.copy(database, copy)
    with pycolmap.Database.open(copy) as opened:
        (camera,) = opened.read_all_cameras()
        params = camera.params
        params[camera.focal_length_idxs()] = USUAL_FOCAL * max(camera.width, camera.height)
        camera.params = params
        opened.update_camera(camera)
    return copy


def _map(
    database: Path, pictures: Path, workspace: Path, options: pycolmap.IncrementalPipelineOptions
) -> list[pycolmap.Reconstruction]:
    pycolmap.set_random_seed(0)
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    models = pycolmap.incremental_mapping(database, pictures, workspace, options)
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def mapping_options(refine_camera: bool) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's usual options, made repeatable, for cameras with credible focal lengths."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = 0
    options.num_threads = 1  # sums in one order: the same result every time
    options.extract_colors = False
    options.min_model_size = 3
    options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.3  # more rarely, and less
    options.ba_global_max_refinements = 2  # thoroughly: a last adjustment comes afterwards
    options.ba_local_max_refinements = 1
    options.ba_local_function_tolerance = options.ba_global_function_tolerance = 1e-5
    low, high = FOCAL_RANGE
    for part in (options, options.mapper, options.triangulation):
        part.min_focal_length_ratio = low
        part.max_focal_length_ratio = high
    options.ba_refine_focal_length = refine_camera
    options.ba_refine_extra_params = refine_camera
    options.mapper.abs_pose_refine_focal_length = refine_camera
    options.mapper.abs_pose_refine_extra_params = refine_camera
    return options


def _lenient(options: pycolmap.IncrementalPipelineOptions) -> pycolmap.IncrementalPipelineOptions:
    options.mapper.init_min_num_inliers = 40
    options.mapper.init_min_tri_angle = 4.0
    options.mapper.abs_pose_min_num_inliers = 15
    options.mapper.abs_pose_min_inlier_ratio = 0.15
    options.mapper.filter_min_tri_angle = 0.75
    options.triangulation.min_angle = 0.75
    return options
