"""nerfstudio's own dataparsers, asked in this process where nerfstudio is installed."""

from __future__ import annotations

from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mem3r_check.colmap_readers import model_folder, read_seeded_model
from mem3r_check.reading import NotChecked, Reading, Unreadable, View
from mem3r_nerfstudio.axes import OPENCV_FROM_OPENGL
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray


def read_nerfstudio_data(project: Path) -> Reading:
    """What `ns-train METHOD --data PROJECT` sees.

    Raises:
        NotChecked: nerfstudio is not installed.
        Unreadable: the dataparser refuses the project.
    """
    _require_nerfstudio()
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = NerfstudioDataParserConfig(
        data=project, eval_mode="all", downscale_factor=1, load_3D_points=True
    )
    return _reading("nerfstudio-data", config)


def read_nerfstudio_colmap(project: Path) -> Reading:
    """What `ns-train METHOD colmap --data PROJECT` sees.

    Raises:
        NotChecked: nerfstudio is not installed.
        Unreadable: the dataparser refuses the project.
    """
    _require_nerfstudio()
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig

    folder = model_folder(project)
    if folder is None:
        raise Unreadable("there is no COLMAP model")
    read_seeded_model(folder)
    config = ColmapDataParserConfig(
        data=project,
        colmap_path=folder.relative_to(project),
        eval_mode="all",
        downscale_factor=1,
    )
    return _reading("nerfstudio colmap", config)


def _require_nerfstudio() -> None:
    if find_spec("nerfstudio") is None:
        raise NotChecked("nerfstudio is not installed here")


def _reading(reader: str, config: Any) -> Reading:
    try:
        with redirect_stdout(StringIO()):
            outputs = config.setup().get_dataparser_outputs("train")
    except (Exception, SystemExit) as error:
        # Foreign code that checks its input by assertions: whatever it raises is its verdict.
        raise Unreadable(f"{reader}: {str(error).strip() or repr(error)}") from error
    cameras = outputs.cameras
    undo = np.linalg.inv(np.vstack([outputs.dataparser_transform.double().numpy(), [0, 0, 0, 1]]))
    poses = _homogeneous(cameras.camera_to_worlds.double().numpy())
    poses[:, :3, 3] /= outputs.dataparser_scale
    poses = undo @ poses @ OPENCV_FROM_OPENGL
    depths = outputs.metadata.get("depth_filenames") or [None] * len(poses)
    views = {
        Path(picture).name: View(
            Path(picture),
            _camera(cameras, index),
            poses[index],
            depths[index] and Path(depths[index]),
        )
        for index, picture in enumerate(outputs.image_filenames)
    }
    points, colours = np.empty((0, 3)), np.empty((0, 3), np.uint8)
    if "points3D_xyz" in outputs.metadata:
        points = outputs.metadata["points3D_xyz"].double().numpy() / outputs.dataparser_scale
        points = points @ undo[:3, :3].T + undo[:3, 3]
        colours = outputs.metadata["points3D_rgb"].numpy()
    unit = outputs.metadata.get("depth_unit_scale_factor", 1.0)
    return Reading(reader, views, points, colours, unit)


def _homogeneous(poses: FloatArray) -> FloatArray:
    last = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (len(poses), 1, 4))
    return np.concatenate([poses, last], axis=1)


def _camera(cameras: Any, index: int) -> Intrinsics:
    fx, fy, cx, cy = (float(getattr(cameras, name)[index]) for name in ("fx", "fy", "cx", "cy"))
    return Intrinsics(fx, fy, cx, cy, int(cameras.width[index]), int(cameras.height[index]))
