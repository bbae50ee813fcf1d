"""Structure from motion over the keyframes: tracks, poses and one camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.refine.keyframes.picture_names import frame_of
from mem3r_plugin.refine.mapping.adjust import (
    adjust,
    bent,
    drop_outliers,
    feature_noise,
    with_principal_point,
)
from mem3r_plugin.refine.mapping.from_poses import map_from_poses
from mem3r_plugin.refine.mapping.incremental import map_incrementally
from mem3r_plugin.refine.mapping.priors import PositionPriors, position_priors
from mem3r_plugin.refine.mapping.scale_breaks import split_at_scale_breaks
from mem3r_plugin.refine.undistort import Undistortion

Way = Literal["predicted", "incremental"]
"""How a map was found: adjusted from the predicted poses, or picture by picture from nothing."""

BENT = 2.0
"""Displacement of the farthest corner, in pixels, from which a lens is worth straightening."""


@dataclass(frozen=True)
class MappingConfig:
    """What is found out about the camera."""

    radial: Literal["auto", "always", "never"] = "auto"
    """Find a radial distortion and make the pictures those of a pinhole camera: where they look bent
    by more than two pixels in the corners, always, or never. A camera that was given is kept as it is."""


@dataclass(frozen=True, eq=False)
class SparseMap:
    """One rigid piece of the scan: posed frames and the points they see.

    All of it is that of a pinhole camera. Where `undistortion` is given, pictures and pixels have to
    go through it first; sightings already have.
    """

    camera: Intrinsics
    """The camera of all frames, in the pixels of the (undistorted) pictures."""
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
    way: Way = "incremental"
    """How it was found."""
    undistortion: Undistortion | None = None
    """What makes the pictures those of `camera`; None where they are as they are."""
    bend: float = 0.0
    """How far the pictures seem to bend their farthest corner, in pixels; 0 where that was not asked
    or has been put right."""
    prior_deviation: float | None = None
    """Standard deviation of the network's positions in the last adjustment, as found, in usual
    steps between keyframes. None: they said too little and had no weight."""


def map_keyframes(
    database: Path,
    pictures: Path,
    workspace: Path,
    known: bool,
    predicted: dict[int, FloatArray] | None = None,
    config: MappingConfig | None = None,
) -> list[SparseMap]:
    """Poses, points and camera from the matched pictures, largest piece first.

    Where the predicted poses explain the matches once they are adjusted, they are the way; else
    the pictures are mapped one by one. Then all is adjusted again with a robust loss, with
    the network's motion as a prior and with a free principal point where the pictures fix it, and
    outliers are dropped. All pieces get the camera of the largest.

    Args:
        database: COLMAP database with features and verified matches. Its camera is changed to one
            with distortion where the configuration asks for it.
        pictures: Folder of the pictures; a file's stem is the index of its frame.
        workspace: Where pycolmap may write.
        known: Whether that camera is known and kept as it is; else mapping begins at it.
        predicted: Predicted `camera_to_world` (4, 4) by frame index, in one scale. How good they are is
            found out.
        config: What is found out about the camera.

    Returns:
        No piece at all where the pictures show too little.
    """
    radial = "never" if known else (config or MappingConfig()).radial
    _set_distortion(database, radial == "always")
    way, models = _models(database, pictures, workspace, not known, predicted)
    maps = list(_finished(models, way, not known, predicted or {}))
    if radial == "auto" and maps and maps[0].bend > BENT:
        _set_distortion(database, True)
        _, models = _models(database, pictures, workspace, True, maps[0].poses)
        straight = list(_finished(models, way, True, predicted or {}))
        if straight and straight[0].undistortion and len(straight[0].poses) >= len(maps[0].poses):
            return straight
    return maps


def _models(
    database: Path,
    pictures: Path,
    workspace: Path,
    refine_camera: bool,
    predicted: dict[int, FloatArray] | None,
) -> tuple[Way, list[pycolmap.Reconstruction]]:
    if predicted is not None:
        model = map_from_poses(database, predicted, refine_camera)
        if model is not None:
            return "predicted", split_at_scale_breaks(model)
    return "incremental", map_incrementally(database, pictures, workspace, refine_camera)


def _finished(
    models: list[pycolmap.Reconstruction],
    way: Way,
    refine_camera: bool,
    predicted: dict[int, FloatArray],
) -> Iterator[SparseMap]:
    shared: pycolmap.Camera | None = None
    for model in models:
        (camera,) = model.cameras.values()
        if shared is not None:
            camera.model, camera.params = shared.model, shared.params
        free = refine_camera and shared is None
        if free:
            model = with_principal_point(model) or model
        priors = position_priors(_poses(model), predicted)
        if priors is not None and not priors.useful:
            priors = None
        drop_outliers(model)
        adjust(model, free, pose_priors(model, priors) if priors else ())
        drop_outliers(model)
        straighten_if_incredible(model)
        if shared is None:
            shared = pycolmap.Camera(next(iter(model.cameras.values())).todict())
        yield _sparse_map(model, way, priors, _bend(model) if free else 0.0)


def _set_distortion(database: Path, radial: bool) -> None:
    """Let the camera of the database, unless it is known, have a radial coefficient or not."""
    plain, curved = pycolmap.CameraModelId.SIMPLE_PINHOLE, pycolmap.CameraModelId.SIMPLE_RADIAL
    with pycolmap.Database.open(database) as opened:
        (camera,) = opened.read_all_cameras()
        if camera.model not in (plain, curved):
            return
        params = camera.params[:3].tolist()
        camera.model = curved if radial else plain
        camera.params = [*params, 0.0] if radial else params
        opened.update_camera(camera)


def straighten_if_incredible(model: pycolmap.Reconstruction) -> None:
    """Go back to a pinhole where the distortion found is none that a lens can have.

    It comes out so where the pictures hardly fix it, such as those of a drive straight ahead.
    """
    (camera,) = model.cameras.values()
    try:
        _undistortion(camera)
    except ValueError:
        camera.model, camera.params = (
            pycolmap.CameraModelId.SIMPLE_PINHOLE,
            camera.params[:-1],
        )
        adjust(model, refine_camera=True)


def _bend(model: pycolmap.Reconstruction) -> float:
    """Displacement of the farthest corner that one radial coefficient would explain, in pixels."""
    (camera,) = model.cameras.values()
    if camera.model != pycolmap.CameraModelId.SIMPLE_PINHOLE:
        return 0.0
    (curved,) = bent(model).cameras.values()
    lens = _pinhole(curved)
    return Undistortion(lens, float(curved.params[-1]), lens).displacement


def pose_priors(model: pycolmap.Reconstruction, priors: PositionPriors) -> list[pycolmap.PosePrior]:
    """Priors for pycolmap, which takes the residuals of features to have a deviation of one pixel."""
    variance = (priors.deviation / feature_noise(model)) ** 2
    return [
        pycolmap.PosePrior(
            corr_data_id=image.data_id,
            position=priors.centres[frame_of(image.name)],
            position_covariance=variance * np.eye(3),
            coordinate_system=pycolmap.PosePriorCoordinateSystem.CARTESIAN,
        )
        for image in model.images.values()
        if image.has_pose and frame_of(image.name) in priors.centres
    ]


def _poses(model: pycolmap.Reconstruction) -> dict[int, FloatArray]:
    poses = {}
    for image in model.images.values():
        if image.has_pose:
            inverse = image.cam_from_world().inverse()
            poses[frame_of(image.name)] = pose_matrix(
                inverse.rotation.matrix(), inverse.translation
            )
    return poses


def _pinhole(camera: pycolmap.Camera) -> Intrinsics:
    """A COLMAP camera without its distortion."""
    matrix = camera.calibration_matrix()
    return Intrinsics(
        matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], camera.width, camera.height
    )


def _undistortion(camera: pycolmap.Camera) -> Undistortion | None:
    if camera.model != pycolmap.CameraModelId.SIMPLE_RADIAL:
        return None
    return Undistortion.without_blanks(_pinhole(camera), float(camera.params[-1]))


def _sparse_map(
    model: pycolmap.Reconstruction, way: Way, priors: PositionPriors | None, bend: float
) -> SparseMap:
    (camera,) = model.cameras.values()
    undistortion = _undistortion(camera)
    ids = sorted(model.points3D)
    return SparseMap(
        camera=undistortion.camera if undistortion else _pinhole(camera),
        poses=_poses(model),
        points=np.array([model.points3D[point].xyz for point in ids]).reshape(-1, 3),
        sightings=_sightings(model, {point: row for row, point in enumerate(ids)}, undistortion),
        reprojection_error=model.compute_mean_reprojection_error(),
        track_length=model.compute_mean_track_length(),
        way=way,
        undistortion=undistortion,
        bend=bend,
        prior_deviation=priors.deviation / priors.step if priors else None,
    )


def _sightings(
    model: pycolmap.Reconstruction, rows: dict[int, int], undistortion: Undistortion | None
) -> dict[int, tuple[NDArray[np.int64], FloatArray]]:
    sightings = {}
    for image in model.images.values():
        if not image.has_pose:
            continue
        seen = image.get_observation_points2D()
        pixels = np.array([point.xy for point in seen], np.float64).reshape(-1, 2)
        sightings[frame_of(image.name)] = (
            np.array([rows[point.point3D_id] for point in seen], np.int64),
            undistortion.pixels(pixels) if undistortion else pixels,
        )
    return sightings
