"""A sphere of points photographed from around it: COLMAP's own synthetic matches, with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mem3r_plugin.geometry.pose import pose_matrix

FOCAL, SIZE = 700.0, (640, 480)


@dataclass(frozen=True, eq=False)
class Sphere:
    """The database that mapping starts from, and what it should find."""

    database: Path
    model: pycolmap.Reconstruction
    poses: dict[int, NDArray[np.float64]]
    """`camera_to_world` by frame index."""


def photograph(
    folder: Path,
    frames: int = 12,
    points: int = 300,
    principal_point: tuple[float, float] = (320.0, 240.0),
    radial: float = 0.0,
) -> Sphere:
    """Write the database of a camera that starts at a focal length 10 % off, without distortion."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1,
        num_frames_per_rig=frames,
        num_points3D=points,
        camera_width=SIZE[0],
        camera_height=SIZE[1],
        camera_model_id=pycolmap.CameraModelId.SIMPLE_RADIAL,
        camera_params=[FOCAL, *principal_point, radial],
    )
    pycolmap.set_random_seed(0)
    file = folder / "sphere.db"
    with pycolmap.Database.open(file) as database:
        model = pycolmap.synthesize_dataset(options, database)
        noise = pycolmap.SyntheticNoiseOptions(point2D_stddev=0.3)
        pycolmap.synthesize_noise(noise, model, database)
        (camera,) = database.read_all_cameras()
        camera.model = pycolmap.CameraModelId.SIMPLE_PINHOLE
        camera.params = [1.1 * FOCAL, SIZE[0] / 2, SIZE[1] / 2]
        database.update_camera(camera)
        for rank, image in enumerate(database.read_all_images()):
            image.name = model.images[image.image_id].name = f"{rank:06d}.png"
            database.update_image(image)
    poses = {}
    for image in model.images.values():
        inverse = image.cam_from_world().inverse()
        pose = pose_matrix(inverse.rotation.matrix(), inverse.translation)
        poses[int(Path(image.name).stem)] = pose
    return Sphere(file, model, poses)


def perturbed(
    poses: dict[int, NDArray[np.float64]], degrees: float, share: float
) -> dict[int, NDArray[np.float64]]:
    """The poses turned about random axes and moved by a share of their distance to the middle."""
    rng = np.random.default_rng(0)
    centres = np.stack([pose[:3, 3] for pose in poses.values()])
    radius = np.linalg.norm(centres - centres.mean(axis=0), axis=1).mean()
    result = {}
    for frame, pose in poses.items():
        axis = rng.normal(size=3)
        turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
        move = share * radius * rng.normal(size=3) / np.sqrt(3)
        result[frame] = pose_matrix(turn @ pose[:3, :3], pose[:3, 3] + move)
    return result
