"""A drive straight ahead past near and far points: matches made by hand, with the truth."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import pose_matrix

CAMERA = Intrinsics.centred(500.0, 640, 480)
FRAMES = 12


def poses() -> dict[int, NDArray[np.float64]]:
    """`camera_to_world` by frame index: a metre ahead from each to the next."""
    return {frame: pose_matrix(np.eye(3), np.array([0.0, 0.0, frame])) for frame in range(FRAMES)}


def photograph(file: Path, bare: bool = False, brief: bool = False) -> None:
    """Write the database: features with noise of 0.3 pixels, all matches of all pairs, the camera known.

    Args:
        file: The database.
        bare: Nothing is far, and no point is seen both before the middle picture and behind it.
        brief: Nothing is far, and no point is seen by more than three pictures.
    """
    rng = np.random.default_rng(0)
    near = rng.uniform((-6, -3, 5), (6, 3, 30), (900, 3))
    far = rng.uniform((-150, -60, 200), (150, 60, 500), (0 if bare or brief else 150, 3))
    points = np.concatenate([near, far])
    with pycolmap.Database.open(file) as database:
        camera = pycolmap.Camera.create_from_model_id(
            0, pycolmap.CameraModelId.SIMPLE_PINHOLE, CAMERA.fx, CAMERA.width, CAMERA.height
        )
        camera.camera_id = database.write_camera(camera)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        rig.rig_id = database.write_rig(rig)
        seen = {}
        for index, pose in poses().items():
            local = points - pose[:3, 3]
            pixels = CAMERA.project(np.maximum(local, (-np.inf, -np.inf, 0.1)))
            inside = ((pixels > 0) & (pixels < (CAMERA.width, CAMERA.height))).all(axis=1)
            early = np.arange(len(points)) % 2 == 0
            hidden = early if index > FRAMES // 2 else ~early & (index < FRAMES // 2)
            since = index - np.arange(len(points)) % (FRAMES - 2)
            shown = ~(hidden & bare) & (((since >= 0) & (since < 3)) | (not brief))
            kept = np.flatnonzero(inside & (local[:, 2] > 2) & shown)
            image = pycolmap.Image(name=f"{index:06d}.png", camera_id=camera.camera_id)
            image.image_id = database.write_image(image)
            frame = pycolmap.Frame()
            frame.rig_id = rig.rig_id
            frame.add_data_id(image.data_id)
            database.write_frame(frame)
            noisy = pixels[kept] + rng.normal(0, 0.3, (len(kept), 2))
            database.write_keypoints(image.image_id, noisy.astype(np.float32))
            seen[image.image_id] = kept
        for first, second in combinations(seen, 2):
            _, a, b = np.intersect1d(seen[first], seen[second], return_indices=True)
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.inlier_matches = np.stack([a, b], axis=1).astype(np.uint32)
            database.write_matches(first, second, geometry.inlier_matches)
            database.write_two_view_geometry(first, second, geometry)
