"""Sequences on disk, in the layout that `mem3r_plugin.evaluation` reads."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.exports.files import write_file
from mem3r_plugin.exports.tum import write_tum
from mem3r_plugin.training.worlds.render import RenderedViews


def write_sequence(views: RenderedViews, directory: Path, fps: float = 15.0) -> None:
    """Writes pictures, depth, poses and camera of a sequence.

    The layout is `rgb/%06d.png`, `depth/%06d.png` (16-bit; divided by `depth_scale` it is metres, 0 is
    unknown), `poses.txt` (TUM lines: timestamp tx ty tz qx qy qz qw, camera-to-world) and `meta.json`,
    whose cx and cy count from the centre of the first pixel, half a pixel less than our `Intrinsics`.

    Args:
        views: what to write.
        directory: where; made if missing, files of the same names are replaced.
        fps: frames a second, for the timestamps.

    Raises:
        OutputError: something cannot be written.
    """
    pixels = (views.images.cpu().permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    depths = views.depth.cpu().numpy()
    scale = _depth_scale(float(depths.max()))
    stored = (depths * scale).round()
    stored = np.where(stored < 2**16, stored, 0).astype(np.uint16)
    for index, (picture, depth) in enumerate(zip(pixels, stored, strict=True)):
        write_file(directory / "rgb" / f"{index:06d}.png", _png(picture[..., ::-1]))
        write_file(directory / "depth" / f"{index:06d}.png", _png(depth))
    poses = views.camera_to_world.cpu().numpy()
    write_tum(directory / "poses.txt", np.arange(len(poses)) / fps, poses)
    camera = views.intrinsics
    meta = {
        "frames": len(pixels),
        "width": camera.width,
        "height": camera.height,
        "fx": camera.fx,
        "fy": camera.fy,
        "cx": camera.cx - 0.5,
        "cy": camera.cy - 0.5,
        "depth_scale": scale,
        "has_depth": True,
        "has_poses": True,
        "fps": fps,
        "dataset": "mem3r-plugin procedural world",
        "pose_convention": "poses.txt: timestamp tx ty tz qx qy qz qw, camera-to-world, OpenCV",
        "pixel_convention": "integer coordinates are pixel centres",
    }
    write_file(directory / "meta.json", (json.dumps(meta, indent=1) + "\n").encode())


def _depth_scale(farthest: float) -> float:
    """Millimetres where 16 bits hold them, else KITTI's 256 a metre, which reaches 256 m."""
    return 1000.0 if farthest * 1000 < 2**16 else 256.0


def _png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    return data.tobytes()
