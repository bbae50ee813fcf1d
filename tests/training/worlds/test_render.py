import numpy as np
import pytest
import torch
from torch.nn import functional

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds import KINDS, generate_world, sample_path
from mem3r_plugin.training.worlds.builder import Builder
from mem3r_plugin.training.worlds.render import RenderedViews, render
from mem3r_plugin.training.worlds.scenes import World
from mem3r_plugin.training.worlds.textures import texture_pool
from tests.training.worlds.reference import depth_by_reference

CAMERA = Intrinsics(80.0, 84.0, 60.0, 47.0, 121, 90)


@pytest.fixture(scope="module", params=KINDS)
def world(request) -> World:
    return generate_world(request.param, 11)


def facing_north() -> torch.Tensor:
    """A camera at the world's origin that looks along +y."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return pose


def test_depth_of_whole_worlds_is_that_of_the_formulas(world):
    poses = sample_path(world, 40, 3)[::20]
    depth = world.render(poses, CAMERA).depth.numpy()
    for pose, rendered in zip(poses, depth, strict=True):
        expected = depth_by_reference(world.primitives, pose, CAMERA)
        expected = np.where(np.isfinite(expected), expected, 0)
        agrees = np.isclose(rendered, expected, rtol=1e-4)
        assert (
            agrees.mean() > 0.998
        )  # the rest lies on outlines, and in things smaller than a pixel


def test_pixel_centres_lie_at_half_integers():
    builder = Builder(np.random.default_rng(0), texture_pool())
    # An edge at x = 0 in the world, seen at the principal point: left of it wall, right of it sky.
    builder.flat(
        np.array([-5.0, 4.0, 0.0]), np.eye(3)[0], np.eye(3)[2], (10, 20), builder.material("plain")
    )
    lighting = generate_world("street", 0).lighting
    for centre in (60.4, 60.6):
        camera = Intrinsics(80.0, 80.0, centre, 45.0, 121, 90)
        _, depth = render(
            [builder.primitives("cpu")],
            [lighting],
            texture_pool(),
            facing_north()[None, None],
            [camera],
        )
        assert int((depth[0, 0, 45] > 0).sum()) == round(centre)
        assert torch.allclose(depth[depth > 0], torch.tensor(4.0))


def agreement(world: World, views: RenderedViews) -> tuple[float, float]:
    """Part of the unoccluded pixels of view 0 whose depth agrees in view 1, and mean colour difference."""
    camera = views.intrinsics
    first, second = views.camera_to_world.numpy()
    depth = views.depth[0].numpy()
    points = camera.unproject_depth(depth) @ first[:3, :3].T + first[:3, 3]
    in_second = (points - second[:3, 3]) @ second[:3, :3]
    pixels = camera.project(np.where(in_second[..., 2:] > 0.05, in_second, 1.0))
    visible = (depth > 0) & (in_second[..., 2] > 0.05) & camera.contains(pixels)
    grid = torch.from_numpy(2 * pixels / (camera.width, camera.height) - 1).float()[None]
    sampled = functional.grid_sample(
        views.depth[1][None, None], grid, mode="nearest", align_corners=False
    )
    colours = functional.grid_sample(views.images[1][None], grid, align_corners=False)[0]
    seen = sampled[0, 0].numpy()
    smooth = _flat_depth(views.depth[1].numpy(), pixels)
    same = np.abs(seen - in_second[..., 2]) < 0.03 * in_second[..., 2]
    unoccluded = visible & smooth & (in_second[..., 2] < 1.03 * seen)
    difference = (colours - views.images[0]).abs().mean(0).numpy()
    return float(same[unoccluded].mean()), float(difference[unoccluded & same].mean())


def _flat_depth(depth: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Whether pixels fall where depth hardly changes from one pixel to the next, clear of outlines."""
    padded = np.pad(depth, 1, mode="edge")
    around = [
        padded[1 + y : 1 + y + depth.shape[0], 1 + x : 1 + x + depth.shape[1]]
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    ]
    flat = np.ptp(around, axis=0) < 0.03 * depth
    rows = pixels[..., 1].clip(0, depth.shape[0] - 1).astype(int)
    columns = pixels[..., 0].clip(0, depth.shape[1] - 1).astype(int)
    return flat[rows, columns]


@pytest.mark.parametrize("seed", range(3))
def test_views_agree_with_each_other(world, seed):
    views = world.render(
        sample_path(world, 12, seed)[[0, 11]], Intrinsics.centred(150, 256, 192), supersample=2
    )
    depth_agrees, colour_difference = agreement(world, views)
    assert depth_agrees > 0.99
    assert colour_difference < 0.03


def test_views_disagree_where_a_pose_is_wrong(world):
    views = world.render(sample_path(world, 12, 1)[[0, 11]], Intrinsics.centred(150, 256, 192))
    away = 0.2 * float(views.depth[1].median())
    views.camera_to_world[1, :3, 3] += away * views.camera_to_world[1, :3, 2]
    assert agreement(world, views)[0] < 0.9


def test_supersampling_changes_colours_a_little_and_depth_not_at_all(world):
    poses = sample_path(world, 3, 5)[[0]]
    plain, fine = world.render(poses, CAMERA), world.render(poses, CAMERA, supersample=2)
    assert torch.equal(plain.depth, fine.depth)
    difference = (plain.images - fine.images).abs()
    assert 0 < float(difference.mean()) < 0.04


def test_worlds_rendered_together_equal_worlds_rendered_alone():
    worlds = [generate_world(kind, 2) for kind in KINDS]
    poses = torch.stack([sample_path(each, 2, 2) for each in worlds])
    cameras = [Intrinsics.centred(focal, 64, 48) for focal in (40.0, 50.0, 60.0, 70.0)]
    images, depth = render(
        [each.primitives for each in worlds],
        [each.lighting for each in worlds],
        worlds[0].pool,
        poses,
        cameras,
    )
    for index, (each, camera) in enumerate(zip(worlds, cameras, strict=True)):
        alone = each.render(poses[index], camera)
        assert torch.allclose(alone.depth, depth[index], rtol=1e-6)
        assert torch.allclose(alone.images, images[index], atol=1e-5)


def test_the_sky_has_colour_and_no_depth():
    world = generate_world("street", 1)
    up = facing_north()
    up[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    up[:3, 3] = torch.tensor([0, 0, 60.0])
    views = world.render(up[None], CAMERA)
    assert not views.depth.any()
    assert float(views.images.min()) > 0.05
