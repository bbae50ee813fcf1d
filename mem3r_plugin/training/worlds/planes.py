"""The easiest pictures to compare: a camera drifts in front of one textured plane.

Everything in sight is textured and moves alike, so a network finds out here first that two pictures of one
thing can be compared at all. Worlds have blank walls, edges of depth and things that hide each other.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from mem3r_plugin.training.worlds.photometry import disturb
from mem3r_plugin.training.worlds.render import RenderedViews
from mem3r_plugin.training.worlds.sequences import sample_camera
from mem3r_plugin.training.worlds.textures import SIZE, TexturePool, atlas_origin

Array = NDArray[np.float64]

_DISTANCE = (1.0, 8.0)
"""Metres to the plane along its normal."""
_TILT = 0.35
"""Root mean square angle in radians by which the plane is turned, about x and about y."""
_STEP = 0.05
"""Motion from one view to the next along each axis, root mean square, in distances to the plane."""
_TURN = (0.04, 0.04, 0.025)
"""The same of rotation about each axis, in radians."""
_TEXELS = (0.8, 4.0)
"""Texels of the finest level to a pixel, where the camera looks straight at the plane."""
_NEVER = 0.05
"""Cosine to the plane's normal below which a ray counts as missing it."""
_FAR = 80.0
"""Metres beyond which nothing is seen."""


def sample_plane(
    rng: np.random.Generator, frames: int, size: tuple[int, int], pool: TexturePool
) -> RenderedViews:
    """A camera that moves steadily in front of a plane.

    Args:
        rng: the only source of chance.
        frames: number of views.
        size: width and height of the pictures.
        pool: textures; photographs are taken if it has any.

    Returns:
        views whose world is the first camera.
    """
    camera = sample_camera(rng, size)
    distance = float(np.exp(rng.uniform(*np.log(_DISTANCE))))
    plane = Rotation.from_rotvec([*rng.normal(0, _TILT, 2), 0]) * Rotation.from_rotvec(
        [0, 0, rng.uniform(0, 2 * np.pi)]
    )
    poses = _drift(rng, frames, distance)
    right, down, normal = plane.as_matrix().T
    rays = camera.unproject_depth(np.ones((camera.height, camera.width)))
    points, depth = _met(rays, poses, normal, distance)
    texels = float(np.exp(rng.uniform(*np.log(_TEXELS))))
    scale = texels * camera.fx / distance / SIZE  # repetitions to a metre
    u, v = (scale * points @ axis + rng.random() for axis in (right, down))
    images = _painted(rng, pool, u, v, level=np.log2(texels * depth / distance + 1e-9))
    images = torch.where(torch.from_numpy(depth > 0)[:, None], images, 0.5)
    return RenderedViews(
        disturb(images, int(rng.integers(2**31))),
        torch.from_numpy(depth).float(),
        torch.from_numpy(poses),
        camera,
    )


def _drift(rng: np.random.Generator, frames: int, distance: float) -> Array:
    """Poses (T, 4, 4) that repeat one motion, the first of them the identity."""
    motion = np.eye(4)
    motion[:3, 3] = rng.normal(0, _STEP, 3) * distance
    motion[:3, :3] = Rotation.from_rotvec(rng.normal(0, _TURN)).as_matrix()
    poses = [np.eye(4)]
    for _ in range(frames - 1):
        poses.append(poses[-1] @ motion)
    return np.stack(poses)


def _met(rays: Array, poses: Array, normal: Array, distance: float) -> tuple[Array, Array]:
    """Where rays (H, W, 3) of cameras (T, 4, 4) meet the plane normal . x = distance.

    Returns:
        points in the world (T, H, W, 3), and z-depth (T, H, W), 0 where nothing is met.
    """
    directions = rays @ poses[:, None, :3, :3].swapaxes(-1, -2)
    centres = poses[:, None, None, :3, 3]
    towards = directions @ normal
    depth = (distance - centres @ normal) / np.maximum(towards, _NEVER)
    depth = np.where((towards > _NEVER) & (depth > 0) & (depth < _FAR), depth, 0.0)
    return centres + depth[..., None] * directions, depth


def _painted(
    rng: np.random.Generator, pool: TexturePool, u: Array, v: Array, level: Array
) -> Tensor:
    """Pictures (T, 3, H, W) of a texture at coordinates in repetitions (T, H, W)."""
    photographs = pool.indices.get("photo")
    texture = np.array(rng.choice(photographs or range(len(pool.names))))
    palette = torch.from_numpy(np.eye(3) if photographs else rng.random((3, 3))).float()
    across, along, mip = (torch.from_numpy(each.ravel()).float() for each in (u, v, level))
    origin = torch.from_numpy(atlas_origin(texture)).float()[:, None]
    weights = pool.sample(origin, across, along, mip)
    return (palette.T @ weights).reshape(3, *u.shape).movedim(0, 1).contiguous()
