"""Losses are zero where they should be, blind to what they should not see, and differentiable everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import (
    pose_matrix,
    quaternion_from_rotation,
    relative_pose,
    rotation_from_quaternion,
)
from mem3r_plugin.training.batch import SequenceBatch, collate
from mem3r_plugin.training.losses import (
    depth_loss,
    edge_loss,
    log_depth_error,
    motion_loss,
    patch_flow,
    patch_flow_loss,
    point_loss,
    pose_loss,
    relative_poses,
    rgb_loss,
)
from mem3r_plugin.training.worlds import RenderedViews

SHAPE = (2, 3, 4, 5)
SCALE = torch.tensor([2.0, 5.0])


def random_poses(seed: int, count: int = 4) -> Tensor:
    """Poses (1, count, 7), float64."""
    pose = torch.randn(1, count, 7, generator=torch.Generator().manual_seed(seed)).double()
    pose[..., 3:] /= pose[..., 3:].norm(dim=-1, keepdim=True)
    return pose


def matrices(pose: Tensor) -> np.ndarray:
    return pose_matrix(rotation_from_quaternion(pose[0, :, 3:].numpy()), pose[0, :, :3].numpy())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_relative_poses_agree_with_matrices(seed: int) -> None:
    poses = random_poses(seed)
    steps = relative_poses(poses)
    expected = relative_pose(matrices(poses)[:-1], matrices(poses)[1:])
    np.testing.assert_allclose(matrices(steps), expected, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_quaternion_sign_does_not_count(seed: int) -> None:
    poses, scale = random_poses(seed), torch.ones(1)
    flipped = poses.clone()
    flipped[..., 3:] *= -1
    assert pose_loss(flipped, poses, scale) == pytest.approx(0, abs=1e-12)
    assert motion_loss(flipped, poses, scale) == pytest.approx(0, abs=1e-6)


def test_motion_does_not_see_where_the_world_is() -> None:
    """Moving all cameras together changes the pose loss but not the motion loss."""
    poses, scale = random_poses(3), torch.ones(1)
    turn = pose_matrix(rotation_from_quaternion([0.5, 0.5, 0.5, 0.5]), [1.0, 2.0, 3.0])
    moved = turn @ matrices(poses)
    quaternions = quaternion_from_rotation(moved[:, :3, :3])
    elsewhere = torch.from_numpy(np.concatenate([moved[:, :3, 3], quaternions], axis=-1))[None]
    assert pose_loss(elsewhere, poses, scale) > 1
    assert motion_loss(elsewhere, poses, scale) == pytest.approx(0, abs=1e-6)


def test_lengths_count_in_units_of_the_scene() -> None:
    poses, off = random_poses(1), torch.zeros(1, 4, 7).double()
    off[..., 0] = 1.0
    near = pose_loss(poses + off, poses, torch.tensor([1.0]))
    far = pose_loss(poses + off, poses, torch.tensor([10.0]))
    assert near == pytest.approx(10 * float(far))


def test_point_loss_counts_valid_pixels_only() -> None:
    true, confidence = torch.randn(*SHAPE, 3), torch.ones(SHAPE)
    predicted, valid = true.clone(), torch.ones(SHAPE, dtype=torch.bool)
    valid[:, 1] = False
    predicted[:, 1] += 100
    assert point_loss(predicted, confidence, true, valid, SCALE, 0.2) == 0


def test_confidence_is_best_at_reward_over_error() -> None:
    """The minimum of c d - beta log c is at c = beta / d."""
    true = torch.zeros(*SHAPE, 3)
    predicted = true.clone()
    predicted[..., 0] = 0.1 * SCALE.view(-1, 1, 1, 1)
    valid = torch.ones(SHAPE, dtype=torch.bool)
    confidence = torch.full(SHAPE, 2.0, requires_grad=True)
    point_loss(predicted, confidence, true, valid, SCALE, 0.2).backward()
    assert confidence.grad is not None
    assert confidence.grad.abs().max() < 1e-6


@pytest.mark.parametrize("offset", [0.0, 1e-3, 1.0, 1e4])
def test_gradients_are_finite_however_far_off(offset: float) -> None:
    true, valid = torch.randn(*SHAPE, 3), torch.ones(SHAPE, dtype=torch.bool)
    predicted = (true + offset).requires_grad_()
    point_loss(predicted, torch.ones(SHAPE), true, valid, SCALE, 0.2).backward()
    assert predicted.grad is not None
    assert torch.isfinite(predicted.grad).all()


def test_nothing_valid_costs_nothing() -> None:
    nothing = torch.zeros(SHAPE, dtype=torch.bool)
    points = torch.randn(*SHAPE, 3)
    assert point_loss(points, torch.ones(SHAPE), points + 1, nothing, SCALE, 0.2) == 0


def a_wall_before_another(height: int = 16, width: int = 24) -> Tensor:
    """Depth (1, 2, height, width): left half 2 m, right half 6 m, and some pixels unknown."""
    depth = torch.full((1, 2, height, width), 6.0)
    depth[..., : width // 2] = 2
    depth[..., 3:5, 10:15] = 0
    return depth


def of_depth(predicted: Tensor, true: Tensor) -> tuple[float, float]:
    error = log_depth_error(predicted, true, torch.ones(1))
    return float(depth_loss(error, true > 0)), float(edge_loss(error, true > 0))


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.0])
def test_depth_and_edges_do_not_see_the_scale_nor_what_is_unknown(scale: float) -> None:
    true = a_wall_before_another()
    predicted = torch.where(true > 0, scale * true, -50.0)
    assert of_depth(predicted, true) == pytest.approx((0, 0), abs=1e-6)


def test_depth_counts_ratios_near_and_far_alike() -> None:
    true = torch.ones(1, 1, 4, 4)
    true[..., 2:] = 50
    for part in (slice(0, 1), slice(3, 4)):  # a quarter of the pixels, near or far
        predicted = true.clone()
        predicted[..., part] *= 2
        assert of_depth(predicted, true)[0] == pytest.approx(np.log(2) / 4)


def test_a_blurred_edge_costs_more_than_its_pixels() -> None:
    true = a_wall_before_another()
    blurred = true.clone()
    blurred[..., 11:13] = 12**0.5
    tilted = true * torch.linspace(0.9, 1.1, true.shape[-1])
    (blurred_depth, blurred_edges), (tilted_depth, tilted_edges) = (
        of_depth(predicted, true) for predicted in (blurred, tilted)
    )
    assert blurred_edges / blurred_depth > 3 * tilted_edges / tilted_depth


def test_depth_and_edges_pull_even_points_behind_the_camera_nowhere_wild() -> None:
    true = a_wall_before_another()
    predicted = (-true + 3).requires_grad_()
    error = log_depth_error(predicted, true, torch.ones(1))
    (depth_loss(error, true > 0) + edge_loss(error, true > 0)).backward()
    assert predicted.grad is not None and predicted.grad.isfinite().all()


def test_a_sequence_without_depth_costs_neither_depth_nor_edges() -> None:
    nothing = torch.zeros(1, 2, 16, 24)
    assert of_depth(torch.ones_like(nothing), nothing) == (0, 0)


def test_rgb_loss_brings_channels_together() -> None:
    images = torch.rand(2, 3, 8, 9) * 2 - 1
    assert rgb_loss(images.permute(0, 2, 3, 1), images) == 0
    assert rgb_loss(images.permute(0, 2, 3, 1) + 0.5, images) == pytest.approx(0.25)


def two_views(pose: np.ndarray, depth: float = 4.0) -> SequenceBatch:
    """A wall at one depth, seen from the origin and from `pose`, by a camera of 64x48 pixels."""
    poses = torch.from_numpy(np.stack([np.eye(4), pose]))
    flat = torch.full((2, 48, 64), depth)
    views = RenderedViews(torch.zeros(2, 3, 48, 64), flat, poses, Intrinsics.centred(50.0, 64, 48))
    return collate([views], far=80.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_patch_flow_is_where_the_pixel_was(seed: int) -> None:
    """Against the camera's own unprojection and projection, at the middle of every quarter of a patch."""
    rng = np.random.default_rng(seed)
    turn = rotation_from_quaternion(np.array([1.0, *rng.normal(0, 0.03, 3)]))
    pose = pose_matrix(turn, rng.normal(0, 0.2, 3))
    motion, counts = patch_flow(two_views(pose))
    assert motion.shape == (1, 1, 12, 4, 2)
    assert counts.all()
    camera = Intrinsics.centred(50.0, 64, 48)
    row, column, part = 1, 2, 3  # of the patch grid; the lower right quarter
    pixel = np.array([column * 16 + 12.5, row * 16 + 12.5])
    ray = np.array([(pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy, 1.0])
    world = pose[:3, :3] @ (4.0 * ray) + pose[:3, 3]
    before = camera.matrix @ world
    expected = (before[:2] / before[2] - pixel) / 16
    np.testing.assert_allclose(motion[0, 0, row * 4 + column, part], expected, atol=1e-4)


def test_patch_flow_loss_is_zero_at_the_truth_and_leaves_out_what_is_unknown() -> None:
    batch = two_views(pose_matrix(np.eye(3), np.array([0.3, 0.0, 0.0])))
    motion, _ = patch_flow(batch)
    assert float(patch_flow_loss(motion, batch)) == 0
    assert float(patch_flow_loss(motion + 0.1, batch)) > 0
    batch.depth[:, :, :, :32] = 0
    _, counts = patch_flow(batch)
    assert not counts.view(3, 4, 4)[:, :2].any()
    assert counts.view(3, 4, 4)[:, 2:].all()
