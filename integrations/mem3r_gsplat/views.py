"""The views of a scan as an optimiser takes them: picture, depth and camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.images import read_image

_JPEG_QUALITY = 97


@dataclass(frozen=True, eq=False)
class View:
    """One picture with its camera and what is known of its depth."""

    image: Tensor
    """RGB in [0, 1], shape (H, W, 3)."""
    depth: Tensor
    """z-depth in the scan's unit, shape (H, W); 0 = unknown."""
    weight: Tensor
    """How far to trust the depth, from 0 to 1, shape (H, W)."""
    world_to_camera: Tensor
    """OpenCV axes, shape (4, 4)."""
    intrinsics: Tensor
    """Calibration matrix, pixel centres at half-integers as gsplat has them, shape (3, 3)."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.depth.shape
        return width, height

    def to(self, device: torch.device) -> View:
        """The same on another device."""
        return View(
            self.image.to(device, non_blocking=True),
            self.depth.to(device, non_blocking=True),
            self.weight.to(device, non_blocking=True),
            self.world_to_camera.to(device),
            self.intrinsics.to(device),
        )


def make_view(
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    confidence: NDArray[np.float32],
    camera: Intrinsics,
    camera_to_world: NDArray[np.float64],
) -> View:
    """A view from arrays of one size: RGB (H, W, 3), depth (H, W), confidence (H, W), at least 1."""
    return View(
        torch.tensor(image, dtype=torch.float32) / 255,  # a copy: pictures may be read-only
        torch.from_numpy(depth),
        torch.from_numpy(np.where(depth > 0, 1 - 1 / np.maximum(confidence, 1), 0)).float(),
        torch.from_numpy(invert_pose(camera_to_world)).float(),
        torch.from_numpy(camera.matrix).float(),
    )


class ScanViews(Dataset[View]):
    """All views of a scan at the original resolution of its pictures.

    Frames of a video are decoded once, in order, into `cache`, as optimisers ask for them in any order.
    """

    def __init__(self, scan: Scan, cache: Path) -> None:
        self._scan = scan
        self._files = [_picture_file(scan, index, cache) for index in range(len(scan))]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> View:
        scan = self._scan
        depth = scan.original_depth(index)
        confidence = scan.transform.inverse.sample(scan.confidence(index))
        image = read_image(self._files[index])
        pose = scan.frames[index].camera_to_world
        return make_view(image, depth, confidence, scan.frame_camera(index), pose)


def scene_scale(scan: Scan) -> float:
    """What counts as large in a scan: how far its cameras spread, or how far they see if that is more."""
    centres = np.stack([frame.camera_to_world[:3, 3] for frame in scan.frames])
    spread = np.linalg.norm(centres - centres.mean(axis=0), axis=1).max()
    depths = [depth[depth > 0] for depth in (scan.depth(i) for i in {0, len(scan) // 2})]
    known = np.concatenate(depths)
    return float(max(1.1 * spread, np.median(known) if known.size else 0.0, 1e-6))


def _picture_file(scan: Scan, index: int, cache: Path) -> Path:
    file = scan.image_file(index)
    if file is not None:
        return file
    file = cache / f"{index:06d}.jpg"
    picture = cv2.cvtColor(scan.image(index), cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    file.write_bytes(encoded.tobytes())
    return file
