"""The sparse model: cameras, images, points and tracks, put together and written by pycolmap."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_colmap.tracks import Observations
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.scan import Scan


def build_reconstruction(
    scan: Scan,
    names: list[str],
    positions: NDArray[np.float64],
    colours: NDArray[np.uint8],
    observations: Observations,
) -> pycolmap.Reconstruction:
    """The model of a scan; points without an observation are left out.

    Args:
        scan: Gives the poses and the camera, or each picture's camera with the picture's id.
        names: File name of every frame's picture; image ids are their ranks, from 1.
        positions: World coordinates of the points, shape (N, 3).
        colours: RGB of the points, shape (N, 3).
        observations: Sightings of the points.
    """
    image_ids = np.empty(len(names), np.int64)
    image_ids[np.argsort(names)] = np.arange(1, len(names) + 1)
    model = pycolmap.Reconstruction()
    camera_ids = image_ids if scan.camera_mode == "per_frame" else np.ones_like(image_ids)
    bounds = np.searchsorted(observations.frames, np.arange(len(names) + 1))
    for index in np.argsort(image_ids).tolist():
        camera_id = int(camera_ids[index])
        if not model.exists_camera(camera_id):
            model.add_camera_with_trivial_rig(_camera(scan.frame_camera(index), camera_id))
        image = pycolmap.Image(
            name=names[index],
            keypoints=observations.pixels[bounds[index] : bounds[index + 1]],
            camera_id=camera_id,
            image_id=int(image_ids[index]),
        )
        model.add_image_with_trivial_frame(image, _camera_from_world(scan, index))
    _add_points(model, positions, colours, observations, image_ids, bounds)
    model.update_point_3d_errors()
    return model


def write_reconstruction(model: pycolmap.Reconstruction, directory: Path, text: bool) -> None:
    """Write the model into a new folder.

    Raises:
        OSError: there is no room. pycolmap itself would leave a torn model and say nothing.
    """
    directory.mkdir(parents=True)
    _require_room(directory, _size_bound(model))
    if text:
        model.write_text(str(directory))
    else:
        model.write_binary(str(directory))


def _camera(camera: Intrinsics, camera_id: int) -> pycolmap.Camera:
    return pycolmap.Camera(
        model="PINHOLE",
        width=camera.width,
        height=camera.height,
        params=[camera.fx, camera.fy, camera.cx, camera.cy],
        camera_id=camera_id,
    )


def _camera_from_world(scan: Scan, index: int) -> pycolmap.Rigid3d:
    return pycolmap.Rigid3d(invert_pose(scan.frames[index].camera_to_world)[:3])


def _add_points(
    model: pycolmap.Reconstruction,
    positions: NDArray[np.float64],
    colours: NDArray[np.uint8],
    observations: Observations,
    image_ids: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> None:
    """Add every observed point with its track; frame i has the observations from `bounds[i]` on."""
    order = np.argsort(observations.points, kind="stable")
    frames = observations.frames[order]
    images = image_ids[frames].tolist()
    keypoints = (order - bounds[frames]).tolist()
    points, starts = np.unique(observations.points[order], return_index=True)
    limits = [*starts.tolist(), len(order)]
    for point, start, end in zip(points.tolist(), limits[:-1], limits[1:], strict=True):
        elements = map(pycolmap.TrackElement, images[start:end], keypoints[start:end])
        model.add_point3D(positions[point], pycolmap.Track(list(elements)), colours[point])


def _size_bound(model: pycolmap.Reconstruction) -> int:
    """Bytes that the model surely fits into, binary or text."""
    return (
        80 * model.compute_num_observations()
        + 256 * model.num_points3D()
        + 1024 * (model.num_images() + 1)
    )


def _require_room(directory: Path, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        return  # macOS, Windows
    trial = directory / "room"
    with trial.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    trial.unlink()
