"""Ray casting once more, in float64 and by other formulas, to hold the renderer against."""

import numpy as np
import torch

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds.primitives import Primitives, Shape


def depth_by_reference(
    primitives: Primitives, camera_to_world: torch.Tensor, camera: Intrinsics
) -> np.ndarray:
    """z-depth (H, W) of the nearest hit, infinite for none, one world-space ray test a primitive."""
    pose = camera_to_world.numpy()
    directions = camera.unproject(camera.pixel_centres(), np.ones((camera.height, camera.width)))
    directions = directions.reshape(-1, 3) @ pose[:3, :3].T
    nearest = np.full(len(directions), np.inf)
    for index in range(len(primitives)):
        depth = _hit(
            Shape(int(primitives.shape[index])),
            pose[:3, 3] - primitives.centre[index].numpy(),
            directions,
            primitives.to_local[index].numpy(),
        )
        nearest = np.minimum(nearest, depth)
    return nearest.reshape(camera.height, camera.width)


def _hit(
    shape: Shape, offset: np.ndarray, directions: np.ndarray, to_local: np.ndarray
) -> np.ndarray:
    if shape in (Shape.CYLINDER, Shape.SPHERE):
        return _hit_round(shape, offset, directions, to_local)
    normal = to_local[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -(normal @ offset) / (directions @ normal)
        u, v = to_local[:2] @ (offset[:, None] + depth * directions.T)
    inside = {
        Shape.QUAD: (np.abs(u) <= 1) & (np.abs(v) <= 1),
        Shape.TRIANGLE: (v >= -1) & (np.abs(u) <= (1 - v) / 2),
        Shape.DISC: np.hypot(u, v) <= 1,
    }[shape]
    return np.where(inside & (depth > 0) & (normal @ offset > 0), depth, np.inf)


def _hit_round(
    shape: Shape, offset: np.ndarray, directions: np.ndarray, to_local: np.ndarray
) -> np.ndarray:
    """The nearer root of the quadratic a t² + 2 b t + c = 0, if the camera is outside."""
    metric = np.diag([1.0, 1.0, 1.0 if shape == Shape.SPHERE else 0.0])
    quadric = to_local.T @ metric @ to_local
    a = np.einsum("ni,ij,nj->n", directions, quadric, directions)
    b = directions @ quadric @ offset
    c = offset @ quadric @ offset - 1
    if c <= 0:
        return np.full(len(directions), np.inf)
    discriminant = b**2 - a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
        height = to_local[2] @ (offset[:, None] + depth * directions.T)
    on_shape = np.ones_like(height, bool) if shape == Shape.SPHERE else np.abs(height) <= 1
    return np.where((discriminant >= 0) & (depth > 0) & on_shape, depth, np.inf)
