"""Pictures of one plane, whose truth is checked against the pictures themselves."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.training.worlds.planes import sample_plane
from mem3r_plugin.training.worlds.render import RenderedViews
from mem3r_plugin.training.worlds.textures import TexturePool, texture_pool

SIZE = (64, 48)
seeds = st.integers(0, 2**32 - 1)


def views(seed: int, frames: int = 3, pool: TexturePool | None = None) -> RenderedViews:
    return sample_plane(np.random.default_rng(seed), frames, SIZE, pool or texture_pool())


def world_points(truth: RenderedViews) -> np.ndarray:
    """Points (N, 3) that all views see."""
    points = []
    for depth, pose in zip(truth.depth.double().numpy(), truth.camera_to_world, strict=True):
        local = truth.intrinsics.unproject_depth(depth)[depth > 0]
        points.append(local @ pose[:3, :3].numpy().T + pose[:3, 3].numpy())
    return np.concatenate(points)


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_all_views_see_one_plane(seed: int) -> None:
    truth = views(seed)
    assert torch.equal(truth.camera_to_world[0], torch.eye(4, dtype=torch.float64))
    points = world_points(truth)
    centred = points - points.mean(axis=0)
    normal = np.linalg.svd(centred, full_matrices=False)[2][2]
    np.testing.assert_allclose(centred @ normal, 0, atol=1e-4 * np.abs(points).max())


def test_depth_and_pose_take_one_picture_to_the_next() -> None:
    """A picture, moved by the truth, is the next picture; moved by nothing, it is less so."""
    moved_errors, still_errors = [], []
    for seed in range(20):
        truth = views(seed, frames=2)
        camera = truth.intrinsics
        depth = truth.depth[1].double().numpy()
        relative = (
            np.linalg.inv(truth.camera_to_world[0].numpy()) @ truth.camera_to_world[1].numpy()
        )
        points = camera.unproject_depth(depth) @ relative[:3, :3].T + relative[:3, 3]
        pixels = camera.project(points)
        grid = torch.from_numpy(pixels / np.array(SIZE) * 2 - 1).float()[None]
        first, second = truth.images
        moved = torch.nn.functional.grid_sample(first[None], grid, align_corners=False)[0]
        inside = (grid[0].abs().amax(-1) < 0.95) & (truth.depth[1] > 0)
        moved_errors.append(float((moved - second)[:, inside].abs().mean()))
        still_errors.append(float((first - second)[:, inside].abs().mean()))
    assert np.mean(moved_errors) < 0.5 * np.mean(still_errors)


def test_the_same_chance_gives_the_same_pictures() -> None:
    first, second, other = views(5), views(5), views(6)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.depth, second.depth)
    assert not torch.equal(first.images, other.images)


def test_pictures_are_what_networks_take() -> None:
    truth = views(1, frames=4)
    assert truth.images.shape == (4, 3, SIZE[1], SIZE[0])
    assert truth.depth.shape == (4, SIZE[1], SIZE[0])
    assert truth.images.dtype == truth.depth.dtype == torch.float32
    assert 0 <= float(truth.images.min()) <= float(truth.images.max()) <= 1
