"""What is fused: one depth map with its weights, colours and camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.kernels import looked_through, surface_cosine
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import (
    decode_confidence,
    decode_depth,
    encode_confidence,
    encode_depth,
)
from mem3r_plugin.stream.estimate import FrameEstimate

WEIGHT_STEP = 1 / 256
"""Weights are multiples of this, so that a sum of them is exact and taking one out leaves no rest."""

_LEARNED_MAX_ANGLE, _MEASURED_MAX_ANGLE = 80.0, 90.0
"""`FusionConfig.max_angle` by default; a network draws surfaces out where its depth jumps."""

_FARTHER = 0.05
"""How much farther than a surface one must have seen to have looked through it, as a share of depth."""


@dataclass(frozen=True)
class DepthFrame:
    """A posed depth map that is ready for fusion."""

    depth: NDArray[np.float32]
    """z-depth, shape (h, w); 0 where there is none or it is not to be used."""
    weight: NDArray[np.float32]
    """Weight of each depth in (0, 1], shape (h, w), multiples of `WEIGHT_STEP`."""
    image: NDArray[np.uint8]
    """RGB, shape (H, W, 3); may be of another size than depth."""
    intrinsics: Intrinsics
    """The camera of the depth map."""
    to_image: NDArray[np.float64]
    """The 2x3 affine map from pixels of the depth map to those of the image."""
    camera_to_world: NDArray[np.float64]
    """Pose, shape (4, 4)."""

    @property
    def camera(self) -> NDArray[np.float64]:
        """fx, fy, cx, cy of the depth map."""
        return camera_array(self.intrinsics)


def scan_frame(scan: Scan, index: int, config: FusionConfig) -> DepthFrame:
    """Frame `index` of a scan, without the depth that `config` rules out.

    Raises:
        ScanError: depth, confidence or picture of the frame cannot be read.
    """
    frame = _frame(
        scan.depth(index),
        scan.confidence(index),
        scan.image(index),
        scan.frame_network_camera(index),
        np.array(scan.transform.inverse.matrix),
        scan.frames[index].camera_to_world,
        config,
        _MEASURED_MAX_ANGLE if scan.header.depth_is_measured else _LEARNED_MAX_ANGLE,
    )
    for other in witnesses(scan, index, config):
        through = looked_through(
            frame.depth,
            frame.camera,
            frame.camera_to_world,
            scan.depth(other),
            camera_array(scan.frame_network_camera(other)),
            invert_pose(scan.frames[other].camera_to_world),
            _FARTHER,
        )
        frame.depth[through] = 0
    return frame


def witnesses(scan: Scan, index: int, config: FusionConfig) -> list[int]:
    """The frames that are asked about the depth of frame `index`: none, one or two."""
    step = config.cross_check * config.stride
    others = (index - step, index + step) if step else ()
    return [other for other in others if 0 <= other < len(scan)]


def camera_array(camera: Intrinsics) -> NDArray[np.float64]:
    """fx, fy, cx, cy."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy])


def estimate_frame(estimate: FrameEstimate, depth_unit: float, config: FusionConfig) -> DepthFrame:
    """An estimate as a scan with steps of `depth_unit` keeps it, without the depth ruled out."""
    depth = decode_depth(encode_depth(estimate.depth, depth_unit)[0], depth_unit)
    confidence = decode_confidence(encode_confidence(estimate.confidence))
    return _frame(
        depth,
        np.where(depth > 0, confidence, np.float32(1)),
        estimate.frame.image,
        estimate.intrinsics,
        np.array(estimate.transform.inverse.matrix),
        estimate.camera_to_world,
        config,
        _LEARNED_MAX_ANGLE,
    )


def _frame(
    depth: NDArray[np.float32],
    confidence: NDArray[np.float32],
    image: NDArray[np.uint8],
    intrinsics: Intrinsics,
    to_image: NDArray[np.float64],
    camera_to_world: NDArray[np.float64],
    config: FusionConfig,
    usual_max_angle: float,
) -> DepthFrame:
    share = 1 - 1 / confidence
    weight = np.maximum(np.rint(share / WEIGHT_STEP), 1).astype(np.float32) * np.float32(
        WEIGHT_STEP
    )
    usable = np.isfinite(depth) & (depth > 0) & (share >= config.confidence)
    if config.max_depth is not None:
        usable &= depth <= config.max_depth
    frame = DepthFrame(
        np.where(usable, depth, np.float32(0)),
        weight,
        np.ascontiguousarray(image),
        intrinsics,
        to_image,
        camera_to_world,
    )
    max_angle = usual_max_angle if config.max_angle is None else config.max_angle
    if max_angle < 90:
        cosine = surface_cosine(frame.depth, frame.camera)
        frame.depth[cosine < np.cos(np.radians(max_angle))] = 0
    return frame
