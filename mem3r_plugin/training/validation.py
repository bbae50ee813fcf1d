"""How good a network is on held-back worlds, beside doing nothing clever.

The trivial baseline never moves, and gives every picture the same depth map: the mean over training worlds,
brought to each sequence by the ratio of medians, as the network's depth is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.evaluation.depth import depth_errors
from mem3r_plugin.evaluation.renewal import RenewedStream
from mem3r_plugin.evaluation.trajectory import trajectory_errors
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.model.updates import UpdateRule, load_rule
from mem3r_plugin.training.worlds import HELD_BACK, RenderedViews, sample_sequence

ERRORS = ("abs_rel", "delta_125", "rpe_translation", "rpe_rotation", "ate_percent")
FAR = 80.0
"""Depth in metres beyond which pixels are not compared."""


def validate(
    network: ReconstructionNetwork,
    size: tuple[int, int],
    *,
    sequences: int = 12,
    views: int = 16,
    stride: int = 4,
    rule: UpdateRule | None = None,
) -> dict[str, float]:
    """Mean errors over held-back sequences, of the network and (prefix `trivial_`) of the baseline.

    Args:
        network: in evaluation mode.
        size: width and height of the pictures.
        sequences: how many held-back worlds.
        views: views of each.
        stride: path frames, of 15 to 30 a second, from one view to the next.
        rule: update rule; plain by default.

    Returns:
        `abs_rel`, `delta_125` (depth, one scale a sequence), `rpe_translation` (metres after Sim(3)
        alignment), `rpe_rotation` (degrees), `ate_percent` (of the path's length), and the baseline's.
    """
    flat = mean_depth(size)
    rows = []
    for index in range(sequences):
        truth = sample_sequence(HELD_BACK + index, views, size, stride=stride)
        depth, poses = stream_sequence(network, truth.images, rule or load_rule("plain"))
        still = np.broadcast_to(np.eye(4), (views, 4, 4))
        trivial = sequence_errors(np.broadcast_to(flat, depth.shape), still, truth)
        rows.append(
            sequence_errors(depth, poses, truth)
            | {f"trivial_{name}": value for name, value in trivial.items()}
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@torch.inference_mode()
def stream_sequence(
    network: ReconstructionNetwork, images: Tensor, rule: UpdateRule
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Depth (T, H, W) and camera-to-world poses (T, 4, 4) of images (T, 3, H, W) in [0, 1], one by one."""
    device = next(network.parameters()).device
    height, width = images.shape[-2:]
    stream = RenewedStream(network, rule)
    depth, poses = [], []
    for image in images:
        tokens = network.encode((image * 2 - 1).unsqueeze(0).to(device))
        output, placed = stream.step(tokens, (height // PATCH, width // PATCH))
        poses.append(placed[0])
        if output.points_self is not None:
            depth.append(output.points_self[0, ..., 2].float().cpu().numpy())
    return np.stack(depth), np.stack(poses)


def sequence_errors(
    depth: NDArray[np.float32], poses: NDArray[np.float64], truth: RenderedViews
) -> dict[str, float]:
    """Depth and pose errors of one sequence; NaN where the network's answer is not finite."""
    if not (np.isfinite(depth).all() and np.isfinite(poses).all()):
        return dict.fromkeys(ERRORS, float("nan"))
    true_depth = truth.depth.cpu().numpy()
    compared = (true_depth > 0) & (true_depth < FAR)
    by_depth = depth_errors(np.maximum(depth[compared], 1e-6), true_depth[compared])
    by_pose = trajectory_errors(poses, truth.camera_to_world.cpu().numpy())
    return {
        "abs_rel": by_depth.abs_rel,
        "delta_125": by_depth.delta_125,
        "rpe_translation": by_pose.rpe_translation,
        "rpe_rotation": by_pose.rpe_rotation,
        "ate_percent": 100 * by_pose.ate_rmse / max(by_pose.path_length, 1e-9),
    }


@lru_cache(maxsize=4)
def mean_depth(size: tuple[int, int], worlds: int = 200) -> NDArray[np.float32]:
    """Mean depth (H, W) of training worlds, each divided by its median so that streets do not rule."""
    total = np.zeros((size[1], size[0]))
    count = np.zeros_like(total)
    for seed in range(worlds):
        depth = sample_sequence(seed, 1, size, photometric=False).depth[0].cpu().numpy()
        seen = (depth > 0) & (depth < FAR)
        if seen.any():
            total[seen] += depth[seen] / np.median(depth[seen])
            count[seen] += 1
    return (total / np.maximum(count, 1)).clip(1e-3).astype(np.float32)
