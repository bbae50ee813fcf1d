"""What a contestant says of a course, and how wrong it is at each length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mem3r_plugin.evaluation.depth import depth_errors
from mem3r_plugin.evaluation.drift.courses import DEPTH_EVERY, GRID, Course, sampled_points
from mem3r_plugin.evaluation.reconstruction import paired_reconstruction_errors
from mem3r_plugin.evaluation.renewal import RenewedStream
from mem3r_plugin.evaluation.trajectory import trajectory_errors
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.model import ReconstructionNetwork, UpdateRule
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.network import DEPTH_ONLY
from mem3r_plugin.stream.preprocess import Preprocessor, to_network_input

CLOUD_POINTS = 20_000
"""Points of a fused cloud, about."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Poses of N frames, and points of M of them at P pixels each."""

    camera_to_world: NDArray[np.float64]
    """Poses (N, 4, 4), OpenCV axes; NaN where there was no answer."""
    points: NDArray[np.float32]
    """Points (M, P, 3) in the frame of every `DEPTH_EVERY`-th camera; NaN for none."""


@torch.inference_mode()
def run_over(
    courses: Sequence[Course], network: ReconstructionNetwork, rule: UpdateRule
) -> list[Trace]:
    """Stream courses of one length and size of picture side by side, once.

    What the front end does frame by frame, in batches where the network has no state to wait for, and with
    depth only where it is compared: three times as fast.
    """
    device = next(network.parameters()).device
    preprocess = Preprocessor.of(network.config)
    stream = RenewedStream(network, rule, len(courses))
    frames = zip(*(course.images() for course in courses), strict=True)
    poses, points = [], []
    while chunk := list(islice(frames, DEPTH_EVERY)):
        pictures = np.stack([preprocess(image)[0] for images in chunk for image in images])
        inputs = to_network_input(pictures).to(device)
        grid = (inputs.shape[2] // PATCH, inputs.shape[3] // PATCH)
        tokens = network.encode(inputs).unflatten(0, (len(chunk), len(courses)))
        for index, now in enumerate(tokens):
            output, placed = stream.step(now, grid, DEPTH_ONLY if index == 0 else ())
            poses.append(placed)
            if output.points_self is not None:
                points.append(output.points_self.float().cpu().numpy())
    return [
        Trace(np.stack(own_poses), _usable(np.stack(own_points)))
        for own_poses, own_points in zip(
            zip(*poses, strict=True), zip(*points, strict=True), strict=True
        )
    ]


def _usable(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Point maps (M, height, width, 3) at the pixels of `GRID`, those in front of the camera."""
    sampled = points.transpose(3, 0, 1, 2)[GRID].transpose(1, 2, 3, 0)
    flat = sampled.reshape(len(points), -1, 3)
    usable = np.isfinite(flat).all(axis=-1) & (flat[..., 2] > 0)
    return np.where(usable[..., None], flat, np.float32(np.nan))


def stand_still(course: Course, mean_depth: NDArray[np.float32]) -> Trace:
    """The baseline: never move, and see in every frame the depth map (h, w), stretched to the picture."""
    size = (course.camera.width, course.camera.height)
    flat = cv2.resize(mean_depth, size, interpolation=cv2.INTER_LINEAR)
    seen = sampled_points(flat[None], course.camera)
    poses = np.broadcast_to(np.eye(4), (len(course), 4, 4))
    return Trace(poses, np.repeat(seen, -(-len(course) // DEPTH_EVERY), axis=0))


def lengths_of(frames: int, lengths: tuple[int, ...]) -> list[int]:
    """Those of the lengths that a course of so many frames reaches, and the whole of it."""
    reached = {length for length in lengths if length <= frames}
    return sorted(reached if frames > max(lengths) else reached | {frames})


def errors_at(course: Course, trace: Trace, frames: int) -> dict[str, float | None]:
    """Errors over the first so many frames, None where they cannot be measured.

    Returns:
        `ate` (root mean square after Sim(3) alignment), `rpe_translation` and `rpe_rotation` (degrees) from
        frame to frame, `path` (its true length), lengths in the course's unit; `abs_rel` and `delta_125` of
        depth with one median scale.
    """
    true = course.camera_to_world[:frames]
    posed = np.isfinite(true).all(axis=(1, 2))
    estimated = trace.camera_to_world[:frames]
    names = ("ate", "rpe_translation", "rpe_rotation", "path", "abs_rel", "delta_125")
    errors: dict[str, float | None] = dict.fromkeys(names)
    if posed.sum() >= 2 and np.isfinite(estimated[posed]).all():
        by_pose = trajectory_errors(estimated[posed], true[posed])
        errors |= {
            "ate": by_pose.ate_rmse,
            "rpe_translation": by_pose.rpe_translation,
            "rpe_rotation": by_pose.rpe_rotation,
            "path": by_pose.path_length,
        }
    if course.points is not None:
        seen = -(-frames // DEPTH_EVERY)
        predicted, known = trace.points[:seen, :, 2], course.points[:seen, :, 2]
        both = np.isfinite(predicted) & np.isfinite(known)
        if both.any():
            by_depth = depth_errors(predicted[both], known[both])
            errors |= {"abs_rel": by_depth.abs_rel, "delta_125": by_depth.delta_125}
    return {name: value if _finite(value) else None for name, value in errors.items()}


def chamfer(course: Course, trace: Trace) -> float | None:
    """Chamfer distance, in the course's unit, of the cloud that all frames make together.

    Points of the frames whose true pose is known, aligned by the similarity that fits points of the same
    pixels best and by ICP; None where that cannot be measured.

    Raises:
        ConfigError: SciPy is not installed.
    """
    poses, true_poses = trace.camera_to_world[::DEPTH_EVERY], course.camera_to_world[::DEPTH_EVERY]
    posed = np.isfinite(true_poses).all(axis=(1, 2))
    if course.points is None or not np.isfinite(poses[posed]).all():
        return None
    step = math.ceil(course.points[posed, :, 0].size / CLOUD_POINTS)
    clouds = []
    for cameras, points in ((poses, trace.points), (true_poses, course.points)):
        frames = zip(cameras[posed], points[posed, ::step], strict=True)
        clouds.append(np.concatenate([transform_points(pose, local) for pose, local in frames]))
    errors = paired_reconstruction_errors(*clouds)
    return errors.chamfer if errors is not None and _finite(errors.chamfer) else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
