"""Triangle meshes in a world, met by rays that Open3D casts (Embree)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.training.worlds import surfaces
from mem3r_plugin.training.worlds.textures import SIZE
from mem3r_plugin.training.worlds.things import import_open3d


@dataclass(frozen=True)
class MeshHits:
    """The N pixels of a picture in which a mesh is seen."""

    pixel: Tensor
    """Row by row, int64, (N)."""
    inverse: Tensor
    """Inverse z-depth, float32, (N)."""
    surface: Tensor
    """What shading needs, as `surfaces.pack` makes it, float32, (N, COLUMNS)."""
    uv: Tensor
    """Texture coordinates, float32, (2, N)."""

    def at(self, chosen: Tensor) -> MeshHits:
        """Some of them."""
        return MeshHits(
            self.pixel[chosen], self.inverse[chosen], self.surface[chosen], self.uv[:, chosen]
        )

    def to(self, device: torch.device) -> MeshHits:
        """The same on a device."""
        return MeshHits(*(value.to(device) for value in vars(self).values()))


@dataclass(frozen=True)
class Meshes:
    """M triangles, seen from both sides. They stay on the CPU, wherever the rest of a world is."""

    corners: NDArray[np.float32]
    """World positions in metres, (M, 3, 3)."""
    uv: NDArray[np.float32]
    """Texture coordinates of the corners, (M, 3, 2)."""
    material: NDArray[np.int32]
    """Row of `surface` of each triangle, (M)."""
    surface: NDArray[np.float32]
    """What shading needs of each material, (K, COLUMNS), made by `surfaces.pack_skins`."""

    def seen(self, camera: Tensor, rays: Tensor, width: int, height: int) -> MeshHits:
        """What a camera sees of the triangles alone.

        Args:
            camera: its world position, (3).
            rays: homogeneous pixels to world ray directions of z-depth 1, (3, 3).
            width: of the picture, in pixels.
            height: of the picture, in pixels.

        Returns:
            hits on the CPU.
        """
        pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
        homogeneous = np.concatenate([pixels, np.ones((height, width, 1))], -1).reshape(-1, 3)
        directions = homogeneous @ rays.cpu().numpy().T
        beams = np.empty((len(directions), 6), dtype=np.float32)
        beams[:, :3], beams[:, 3:] = camera.cpu().numpy(), directions
        # Directions have z-depth 1, so the distance along them is the z-depth.
        found = self._caster.cast_rays(beams, torch.get_num_threads())
        depth = found["t_hit"].numpy()
        pixel = np.flatnonzero(np.isfinite(depth) & (depth > 0))
        face = found["primitive_ids"].numpy()[pixel].astype(np.int64)
        second, third = found["primitive_uvs"].numpy()[pixel].T
        weights = np.stack([1 - second - third, second, third], -1)
        uv = np.einsum("nc,ncd->dn", weights, self.uv[face])
        surface = self._surface(face, beams[pixel, 3:])
        hits = (pixel, 1 / depth[pixel], surface, uv.astype(np.float32))
        return MeshHits(*(torch.from_numpy(each) for each in hits))

    def hide(self, points: Tensor, lamp: Tensor) -> Tensor:
        """Whether triangles lie between points and a lamp.

        Args:
            points: world positions on the CPU, (N, 3).
            lamp: its world position on the CPU, (3).

        Returns:
            one truth value a point, (N).
        """
        rays = torch.cat([points, lamp - points], -1).float().numpy()
        hidden = self._caster.test_occlusions(rays, tfar=1.0, nthreads=torch.get_num_threads())
        return torch.from_numpy(hidden.numpy())

    @cached_property
    def _caster(self) -> Any:
        caster = import_open3d().t.geometry.RaycastingScene(torch.get_num_threads())
        faces = np.arange(3 * len(self.corners), dtype=np.uint32).reshape(-1, 3)
        caster.add_triangles(self.corners.reshape(-1, 3), faces)
        return caster

    def _surface(
        self, face: NDArray[np.int64], directions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Rows (N, COLUMNS) of triangles (N) with their own normals, which face the rays (N, 3)."""
        rows = self.surface[self.material[face]]
        first, second, third = self.corners[face].transpose(1, 0, 2)
        normal = np.cross(second - first, third - first)
        doubled = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
        away = (normal * directions).sum(1) > 0
        normal /= np.where(away, -doubled, doubled)[:, None]
        rows[:, surfaces.NORMAL] = normal
        (u1, v1), (u2, v2) = (self.uv[face, 1:] - self.uv[face, :1]).transpose(1, 2, 0)
        repeats = np.sqrt(np.abs(u1 * v2 - u2 * v1) / doubled)
        rows[:, surfaces.TEXELS_PER_METRE] = SIZE * repeats
        return rows
