"""The frames of a refined scan, one by one, as a scan's writer takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.refine.depth.scan import depth_transform, refine_scan_depth
from mem3r_plugin.refine.depth.sequence import DepthConfig
from mem3r_plugin.refine.posed import PosedFrames
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.estimate import Frame, FrameEstimate

DEPTH = "depth"
"""Folder in the workspace with the depth of the keyframes."""

Estimates = Iterator[tuple[FrameEstimate, float | None]]
"""Every frame, and the median relative error of its network depth after alignment, if known."""


def refined_estimates(
    scan: Scan,
    posed: PosedFrames,
    config: DepthConfig,
    workspace: Path,
    progress: ProgressCallback = no_progress,
    start: int = 0,
) -> Estimates:
    """Every frame at its refined pose with refined depth, on the grid of `depth_transform`.

    Args:
        scan: Gives pictures and the network's depth.
        posed: Poses, camera and points, at least one of these.
        config: How depth is refined.
        workspace: Folder that keeps what is found, from which an interrupted refinement goes on.
        progress: Is told how far it is.
        start: The first frame wanted.

    Raises:
        ScanError: a picture or depth map of the scan, or a file in the workspace, cannot be read.
        OSError: the workspace cannot be written.
    """
    transform = depth_transform(scan, config.pixels)
    camera = transform.intrinsics(posed.camera)
    keyframes = [i for i in np.unique(posed.frames).tolist() if posed.support[i] == "mapped"]
    points = _points_near(posed, keyframes)
    poses = posed.camera_to_world
    for result in refine_scan_depth(
        scan, posed.camera, poses, points, keyframes, workspace / DEPTH, config, progress, start
    ):
        estimate = FrameEstimate(
            frame=_frame(scan, result.index),
            camera_to_world=poses[result.index],
            depth=result.depth,
            confidence=result.confidence,
            intrinsics=camera,
            transform=transform,
            focal=camera.fx,
        )
        yield estimate, None if result.correction is None else result.correction.residual


def own_estimates(scan: Scan) -> Estimates:
    """Every frame as the scan has it."""
    for index, frame in enumerate(scan.frames):
        estimate = FrameEstimate(
            frame=_frame(scan, index),
            camera_to_world=frame.camera_to_world,
            depth=scan.depth(index),
            confidence=scan.confidence(index),
            intrinsics=scan.network_camera,
            transform=scan.transform,
            focal=frame.focal,
        )
        yield estimate, None


def _points_near(posed: PosedFrames, keyframes: list[int]) -> list[NDArray[np.float64]]:
    """For every frame the points that it, or the keyframe nearest in time, sees; shared, not copied."""
    frames = np.arange(len(posed.camera_to_world))
    between = (np.array(keyframes[:-1]) + keyframes[1:]) / 2
    seen = []
    for keyframe in keyframes:
        start, end = np.searchsorted(posed.frames, [keyframe, keyframe + 1])
        seen.append(posed.points[posed.rows[start:end]])
    return [seen[rank] for rank in np.searchsorted(between, frames)]


def _frame(scan: Scan, index: int) -> Frame:
    """The frame with a reference to its picture in place of the picture."""
    frame = scan.frames[index]
    path = None if frame.image is None else scan.path / frame.image
    nothing = np.zeros((0, 0, 3), np.uint8)
    return Frame(index, frame.name, frame.timestamp, nothing, path, frame.position)
