"""What a contestant says of a course, and how wrong it is at each length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import FrameSkipped, Mem3RError
from mem3r_plugin.evaluation.depth import depth_errors
from mem3r_plugin.evaluation.drift.courses import GRID, Course, sampled_points
from mem3r_plugin.evaluation.reconstruction import paired_reconstruction_errors
from mem3r_plugin.evaluation.trajectory import trajectory_errors
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.stream.front_end import FrontEnd

CLOUD_POINTS = 20_000
"""Points of a fused cloud, about."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Poses and depth of N frames at the P pixels of a course."""

    camera_to_world: NDArray[np.float64]
    """Poses (N, 4, 4), OpenCV axes; NaN where there was no answer."""
    depth: NDArray[np.float32]
    """z-depth (N, P); 0 = none."""
    camera: Intrinsics
    """The camera at network size, as known in the end."""


def run_over(course: Course, front_end: FrontEnd) -> Trace:
    """Stream a course once; of every frame only pose and sampled depth are kept."""
    pixels = course.camera.pixel_centres()[GRID[1:]].shape[:2]
    poses = np.full((len(course), 4, 4), np.nan)
    depth = np.zeros((len(course), pixels[0] * pixels[1]), np.float32)
    camera = course.camera
    for index, image in enumerate(course.images()):
        try:
            estimate = front_end.step(image)
        except FrameSkipped:
            continue
        except Mem3RError:
            break  # it has been giving no finite answer for long
        poses[index] = estimate.camera_to_world
        depth[index] = estimate.depth[GRID].ravel()
        camera = estimate.intrinsics
    return Trace(poses, depth, camera)


def stand_still(course: Course, mean_depth: NDArray[np.float32]) -> Trace:
    """The baseline: never move, and see in every frame the depth map (h, w), stretched to the picture."""
    size = (course.camera.width, course.camera.height)
    flat = cv2.resize(mean_depth, size, interpolation=cv2.INTER_LINEAR)[GRID].ravel()
    poses = np.broadcast_to(np.eye(4), (len(course), 4, 4))
    return Trace(poses, np.broadcast_to(flat, (len(course), flat.size)), course.camera)


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
    if course.depth is not None:
        predicted, known = trace.depth[:frames], course.depth[:frames]
        both = (predicted > 0) & (known > 0)
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
    posed = np.isfinite(course.camera_to_world).all(axis=(1, 2))
    if course.depth is None or not np.isfinite(trace.camera_to_world[posed]).all():
        return None
    step = math.ceil(course.depth[posed].size / CLOUD_POINTS)
    clouds = []
    for poses, depth, camera in (
        (trace.camera_to_world, trace.depth, trace.camera),
        (course.camera_to_world, course.depth, course.camera),
    ):
        local = sampled_points(depth[posed], camera, step)
        frames = zip(poses[posed], local, strict=True)
        clouds.append(np.concatenate([transform_points(pose, points) for pose, points in frames]))
    errors = paired_reconstruction_errors(*clouds)
    return errors.chamfer if errors is not None and _finite(errors.chamfer) else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
