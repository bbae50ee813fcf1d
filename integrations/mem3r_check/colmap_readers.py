"""The programs that read a COLMAP model: pycolmap, gsplat's example loader, 3DGS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mem3r_check.colmap_files import ColmapCamera, ColmapFiles, read_colmap_files
from mem3r_check.reading import Reading, Sightings, Unreadable, View
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix

MODELS = ("sparse/0", "sparse", "colmap/sparse/0", ".")
"""Where a project's model may lie."""
PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")


def model_folder(project: Path) -> Path | None:
    """The folder of the project's COLMAP model, None where it has none."""
    for name in MODELS:
        if any((project / name / f"images.{suffix}").is_file() for suffix in ("bin", "txt")):
            return project / name
    return None


def sightings_of(model: ColmapFiles) -> Sightings:
    """The model's tracks."""
    images = list(model.images.values())
    seen = [image.points >= 0 for image in images]
    pixels = [image.pixels[known] for image, known in zip(images, seen, strict=True)]
    points = [image.points[known] for image, known in zip(images, seen, strict=True)]
    return Sightings(
        tuple(image.name for image in images),
        np.repeat(np.arange(len(images)), [known.sum() for known in seen]),
        np.searchsorted(model.point_ids, np.concatenate(points)),
        np.concatenate(pixels),
        model.points,
    )


def read_pycolmap(project: Path) -> Reading:
    """What pycolmap sees.

    Raises:
        Unreadable: it cannot read the model.
    """
    import cv2  # noqa: F401 - before pycolmap, whose zlib is not OpenCV's
    import pycolmap

    folder = _folder(project)
    read_colmap_files(folder)
    try:
        model = pycolmap.Reconstruction(str(folder))
    except (RuntimeError, ValueError) as error:
        raise Unreadable(f"pycolmap: {error}") from error
    views = {}
    for _, image in sorted(model.images.items()):
        matrix = image.cam_from_world().matrix()
        camera = image.camera
        if camera.model.name not in PINHOLES:
            raise Unreadable(
                f"camera model {camera.model.name} is bent; pictures must be undistorted"
            )
        views[image.name] = View(
            project / "images" / image.name,
            Intrinsics(
                float(camera.params[camera.focal_length_idxs()[0]]),
                float(camera.params[camera.focal_length_idxs()[-1]]),
                float(camera.principal_point_x),
                float(camera.principal_point_y),
                camera.width,
                camera.height,
            ),
            invert_pose(pose_matrix(matrix[:, :3], matrix[:, 3])),
        )
    points = [model.points3D[point_id] for point_id in sorted(model.points3D)]
    return Reading(
        "pycolmap",
        views,
        np.array([point.xyz for point in points]).reshape(-1, 3),
        np.array([point.color for point in points], np.uint8).reshape(-1, 3),
    )


def read_seeded_model(folder: Path) -> ColmapFiles:
    """The model in a folder, for programs that start from its points.

    Raises:
        Unreadable: it cannot be read, or has no points.
    """
    model = read_colmap_files(folder)
    if not len(model.points):
        raise Unreadable(
            "the model has no points to start from; refine the scan, or export it with "
            "--min-track-length 1"
        )
    return model


def read_gsplat(project: Path) -> Reading:
    """What the loader of gsplat's examples sees.

    It sorts pictures by name, and scales every camera by how the first picture's size differs from the
    size that the model says.

    Raises:
        Unreadable: it cannot read the model.
    """
    model = read_seeded_model(_folder(project))
    images = sorted(model.images.values(), key=lambda image: image.name)
    cameras = [_pinhole(model.cameras[image.camera], "gsplat's examples") for image in images]
    if images:
        width, height = _picture_size(project / "images" / images[0].name)
        cameras = [
            _scaled(camera, width / cameras[0].width, height / cameras[0].height)
            for camera in cameras
        ]
    views = {
        image.name: View(project / "images" / image.name, camera, image.camera_to_world)
        for image, camera in zip(images, cameras, strict=True)
    }
    blind = [image.name for image in images if not (image.points >= 0).any()]
    notes = (
        (f"{len(blind)} pictures see no point: its depth loss fails on {blind[0]}",)
        if blind
        else ()
    )
    return Reading("gsplat examples", views, model.points, model.colours, notes=notes)


def read_3dgs(project: Path) -> Reading:
    """What the original 3D Gaussian splatting sees.

    It takes pinhole cameras only, no folders inside `images/`, and passes over principal points.

    Raises:
        Unreadable: it cannot read the model.
    """
    model = read_seeded_model(_folder(project))
    views, worst = {}, 0.0
    for image in model.images.values():
        camera = _pinhole(model.cameras[image.camera], "3DGS")
        offset = np.hypot(camera.cx - camera.width / 2, camera.cy - camera.height / 2)
        worst = max(worst, float(offset))
        views[image.name] = View(
            project / "images" / Path(image.name).name, camera, image.camera_to_world
        )
    notes: tuple[str, ...] = ()
    if worst > 0.01:
        notes = (f"3DGS takes the picture's middle for the principal point, {worst:.1f} px off",)
    return Reading("3DGS", views, model.points, model.colours, notes=notes)


COLMAP_READERS: dict[str, Callable[[Path], Reading]] = {
    "pycolmap": read_pycolmap,
    "gsplat examples": read_gsplat,
    "3DGS": read_3dgs,
}


def _folder(project: Path) -> Path:
    folder = model_folder(project)
    if folder is None:
        raise Unreadable("there is no COLMAP model (images.bin or images.txt)")
    return folder


def _pinhole(camera: ColmapCamera, reader: str) -> Intrinsics:
    if camera.model not in PINHOLES:
        raise Unreadable(f"camera model {camera.model}: {reader} wants undistorted pictures")
    return Intrinsics(*camera.focal_lengths, *camera.principal_point, camera.width, camera.height)


def _scaled(camera: Intrinsics, x: float, y: float) -> Intrinsics:
    return Intrinsics(
        camera.fx * x,
        camera.fy * y,
        camera.cx * x,
        camera.cy * y,
        round(camera.width * x),
        round(camera.height * y),
    )


def _picture_size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as picture:
            return picture.size
    except OSError as error:
        raise Unreadable(f"picture {file.name} is missing or damaged") from error
