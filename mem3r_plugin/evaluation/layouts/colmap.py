"""COLMAP: a project with `images/` and a model in `sparse/0`, `sparse`, or the folder itself.

Pictures are the registered ones, in the order of their names; all take the first one's camera.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.layouts.files import at_rate
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix

_MODELS = ("sparse/0", "sparse", ".")


def matches(directory: Path) -> bool:
    """Whether the folder holds a model."""
    return _model(directory) is not None


def read(directory: Path) -> PosedSequence:
    """Read the project in `directory`.

    Raises:
        SourceError: there is no model, or it is damaged or empty.
    """
    import pycolmap

    folder = _model(directory)
    if folder is None:
        raise SourceError(f"{directory} has no COLMAP model (images.bin or images.txt)")
    try:
        model = pycolmap.Reconstruction(str(folder))
    except (RuntimeError, ValueError) as error:
        raise SourceError(f"{folder} is not a readable COLMAP model: {error}") from error
    registered = [image for image in model.images.values() if image.has_pose]
    if not registered:
        raise SourceError(f"{folder} is a COLMAP model without pictures")
    registered.sort(key=lambda image: image.name)
    world_to_camera = np.stack([image.cam_from_world().matrix() for image in registered])
    camera = model.cameras[registered[0].camera_id]
    intrinsics = Intrinsics(
        float(camera.params[camera.focal_length_idxs()[0]]),
        float(camera.params[camera.focal_length_idxs()[-1]]),
        float(camera.principal_point_x),
        float(camera.principal_point_y),
        camera.width,
        camera.height,
    )
    return PosedSequence(
        directory,
        tuple(directory / "images" / image.name for image in registered),
        at_rate(len(registered)),
        invert_pose(pose_matrix(world_to_camera[..., :3], world_to_camera[..., 3])),
        intrinsics,
    )


def _model(directory: Path) -> Path | None:
    for name in _MODELS:
        if any((directory / name / f"images.{suffix}").is_file() for suffix in ("bin", "txt")):
            return directory / name
    return None
