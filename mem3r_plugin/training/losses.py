"""The losses of CUT3R and Mem3R (mem3r.md, "Training"), on whole sequences at once.

All lengths are divided by the sequence's scale, the mean distance of its visible points, so that a room and a
street weigh the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mem3r_plugin.model.config import PATCH
from mem3r_plugin.training.batch import SequenceBatch
from mem3r_plugin.training.config import LossWeights

MAX_ERROR = 4.0
"""Point errors beyond this many scales count by their root, so that outliers do not drown the rest."""

EDGE_SCALES = 4
"""Distances in pixels, 1, 2, 4 and 8, over which steps of depth are compared."""

NEAREST = 0.01
"""Predicted depths below this share of the scale count as it, so that their logarithm is finite."""

MAX_FLOW = 3.0
"""Motion in patches beyond which a part of a patch does not count: it was far out of the picture."""


def point_loss(
    predicted: Tensor, confidence: Tensor, true: Tensor, valid: Tensor, scale: Tensor, reward: float
) -> Tensor:
    """Confidence-aware pointmap regression: mean of c |x - x*| / s - beta log c over valid pixels.

    Args:
        predicted: points (batch, views, height, width, 3).
        confidence: (batch, views, height, width), at least 1.
        true: points like `predicted`.
        valid: which pixels count, like `confidence`.
        scale: of each sequence (batch,).
        reward: beta.
    """
    distance = torch.linalg.vector_norm(predicted - true, dim=-1) / scale.view(-1, 1, 1, 1)
    # The clamp keeps the unused branch's gradient finite where the distance is 0.
    damped = (MAX_ERROR * distance.clamp_min(MAX_ERROR)).sqrt()
    distance = torch.where(distance > MAX_ERROR, damped, distance)
    loss = confidence * distance - reward * confidence.log()
    return (loss * valid).sum() / valid.sum().clamp_min(1)


def log_depth_error(predicted: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Logarithm of predicted over true depth, 0 where the truth is unknown.

    Args:
        predicted: depth (batch, views, height, width).
        true: like `predicted`, 0 where it does not count.
        scale: of each sequence (batch,).
    """
    nearest = NEAREST * scale.view(-1, 1, 1, 1)
    ratio = torch.maximum(predicted, nearest) / torch.where(true > 0, true, 1.0)
    return torch.where(true > 0, ratio, 1.0).log()


def depth_loss(error: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute logarithm of depth over truth, once each sequence is brought to its best scale.

    Near and far count alike here; in `point_loss`, a metre is a metre.

    Args:
        error: `log_depth_error` (batch, views, height, width).
        valid: which pixels count.
    """
    offsets = error.detach().masked_fill(~valid, torch.nan).flatten(1).nanmedian(1).values
    distance = (error - offsets.nan_to_num().view(-1, 1, 1, 1)).abs()
    return (distance * valid).sum() / valid.sum().clamp_min(1)


def edge_loss(error: Tensor, valid: Tensor) -> Tensor:
    """How much steps of the logarithm of depth differ from the true ones, over several distances.

    MegaDepth's multi-scale gradient matching (Li and Snavely 2018, eq. 3): a blurred edge, cheap pixel by
    pixel, is dear here.

    Args:
        error: `log_depth_error` (batch, views, height, width).
        valid: which pixels count.
    """
    total = error.new_zeros(())
    for scale in range(EDGE_SCALES):
        step = 2**scale
        some, counted = error[..., ::step, ::step], valid[..., ::step, ::step]
        for axis in (-1, -2):
            both = counted.narrow(axis, 1, counted.shape[axis] - 1) & counted.narrow(
                axis, 0, counted.shape[axis] - 1
            )
            total = total + (some.diff(dim=axis).abs() * both).sum() / both.sum().clamp_min(1)
    return total / EDGE_SCALES


def pose_loss(pose: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Mean of |t - t*| / s + |q - q*| over poses (batch, views, 7), quaternions up to sign."""
    translation = torch.linalg.vector_norm(pose[..., :3] - true[..., :3], dim=-1)
    same = torch.linalg.vector_norm(pose[..., 3:] - true[..., 3:], dim=-1)
    opposite = torch.linalg.vector_norm(pose[..., 3:] + true[..., 3:], dim=-1)
    return (translation / scale.view(-1, 1) + torch.minimum(same, opposite)).mean()


def motion_loss(pose: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """`pose_loss` of each view's pose relative to the view before; poses (batch, views, 7)."""
    return pose_loss(relative_poses(pose), relative_poses(true), scale)


def relative_poses(pose: Tensor) -> Tensor:
    """Poses (batch, views - 1, 7) of each view in the frame of the view before."""
    translation, quaternion = pose[..., :3], pose[..., 3:]
    before = quaternion[:, :-1] * quaternion.new_tensor([1.0, -1.0, -1.0, -1.0])
    step = rotate(before, translation[:, 1:] - translation[:, :-1])
    return torch.cat([step, multiply(before, quaternion[:, 1:])], dim=-1)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions wxyz (…, 4)."""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    real = aw * bw - (av * bv).sum(-1, keepdim=True)
    return torch.cat([real, aw * bv + bw * av + torch.linalg.cross(av, bv)], dim=-1)


def rotate(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Vectors (…, 3) turned by unit quaternions wxyz (…, 4)."""
    real, axis = quaternion[..., :1], quaternion[..., 1:]
    twice = 2 * torch.linalg.cross(axis, vector)
    return vector + real * twice + torch.linalg.cross(axis, twice)


def patch_flow(batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Where four parts of each patch were in the view before.

    Returns:
        motion from this view to the view before, in patches, (batch, views - 1, rows * columns, 4, 2) as
        (x, y), and which of them count, (batch, views - 1, rows * columns, 4).
    """
    side = PATCH // 2
    step = batch.rays[:, 0, 1, 0] - batch.rays[:, 0, 0, 0]  # of the rays, per pixel
    rays = batch.rays[:, None, side // 2 :: side, side // 2 :: side]
    depth = batch.depth[:, 1:, side // 2 :: side, side // 2 :: side, None]
    before_from_view = (
        torch.linalg.inv(batch.camera_to_world[:, :-1]) @ batch.camera_to_world[:, 1:]
    )
    rotation, centre = before_from_view[..., :3, :3], before_from_view[..., :3, 3]
    before = torch.einsum("btij,bthwj->bthwi", rotation, rays * depth) + centre[:, :, None, None]
    z = before[..., 2:]
    motion = (before[..., :2] / z.clamp_min(1e-3) - rays[..., :2]) / step.view(-1, 1, 1, 1, 1)
    motion = motion / PATCH
    counts = (depth > 0) & (z > 1e-3) & (motion.abs().amax(-1, keepdim=True) < MAX_FLOW)
    return _by_patch(motion), _by_patch(counts)[..., 0]


def _by_patch(parts: Tensor) -> Tensor:
    """(batch, views, 2 rows, 2 columns, channels) as (batch, views, rows * columns, 4, channels)."""
    patches = parts.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).transpose(3, 4)
    return patches.flatten(4, 5).flatten(2, 3)


def patch_flow_loss(predicted: Tensor, batch: SequenceBatch) -> Tensor:
    """Mean Huber loss of predicted motion (batch, views - 1, rows * columns, 4, 2) in patches."""
    motion, counts = patch_flow(batch)
    error = F.huber_loss(predicted.float(), motion, reduction="none", delta=0.25).sum(-1)
    return (error * counts).sum() / counts.sum().clamp_min(1) / 0.25


def rgb_loss(rgb: Tensor, images: Tensor) -> Tensor:
    """Mean squared error of colours (…, height, width, 3) against images (…, 3, height, width) in [-1, 1]."""
    return (rgb - images.movedim(-3, -1)).square().mean()


def total_loss(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum of the terms, which are named like their weights."""
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def sequence_scale(batch: SequenceBatch) -> Tensor:
    """Mean distance (batch,) of the points a sequence sees, in metres."""
    distance = torch.linalg.vector_norm(batch.points_self, dim=-1) * batch.valid
    return distance.flatten(1).sum(1) / batch.valid.flatten(1).sum(1).clamp_min(1)
