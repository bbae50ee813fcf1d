"""The voxels of a volume as torch tensors, for GPUs.

What numba compiles for the CPU in `kernels` is said here in whole tensors: the same steps in the same
precision, so that both agree to rounding. Nothing depends on the order in which a GPU works.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_open3d.frames import DepthFrame
from mem3r_open3d.kernels import BLOCK_SIZE, KEY_BITS, KEY_LIMIT, VOXELS, unpack_keys
from mem3r_open3d.voxels import VoxelValues
from mem3r_plugin.geometry.pose import invert_pose

_BLOCKS_AT_A_TIME = 4096
"""Blocks that are updated together; the 2 million voxels take some 200 MB beside those that are kept."""


class TorchVoxels:
    """Tensors on a device, as a rule a GPU; see `Voxels`.

    Args:
        device: Where they are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.allocate(0)

    def allocate(self, capacity: int) -> None:
        """Begin anew; the old tensors go first, since two at a time could exceed the memory."""
        self._tsdf = self._weight = self._color = torch.empty(0)
        self._tsdf = torch.zeros(capacity, VOXELS, device=self._device)
        self._weight = torch.zeros(capacity, VOXELS, device=self._device)
        self._color = torch.zeros(capacity, VOXELS, 3, device=self._device)

    def touched(
        self, frame: DepthFrame, block_length: float, truncation: float, pixel_step: int, limit: int
    ) -> NDArray[np.int64]:
        """See `Voxels`; rising."""
        fx, fy, cx, cy = frame.camera.tolist()
        first = pixel_step // 2
        depth = self._here(frame.depth)[first::pixel_step, first::pixel_step]
        row, column = torch.nonzero(depth > 0, as_tuple=True)
        z = depth[row, column].double()
        x_ray = (column.double() * pixel_step + first + 0.5 - cx) / fx
        y_ray = (row.double() * pixel_step + first + 0.5 - cy) / fy
        length = torch.sqrt(1.0 + x_ray * x_ray + y_ray * y_ray)
        near, far = (z - truncation / length).clamp(min=0.0), z + truncation / length
        samples = torch.ceil(2.0 * (far - near) * length / block_length) + 1
        found = [torch.empty(0, dtype=torch.int64, device=self._device)]
        for i in range(int(samples.max()) if len(samples) else 0):
            t = near + (far - near) * i / (samples - 1)
            key = torch.zeros_like(row)
            for x, y, z_axis, origin in frame.camera_to_world[:3].tolist():
                ray = x * x_ray + y * y_ray + z_axis
                block = torch.floor((origin + t * ray) / block_length).long()
                key = (key << KEY_BITS) | (block + KEY_LIMIT)
            found.append(torch.unique(key[i < samples]))
        return torch.unique(torch.cat(found))[: limit + 1].cpu().numpy()

    def update(
        self,
        slots: NDArray[np.int64],
        keys: NDArray[np.int64],
        frame: DepthFrame,
        voxel_size: float,
        truncation: float,
        sign: float,
    ) -> None:
        """See `Voxels`."""
        depth, depth_weight = self._here(frame.depth).ravel(), self._here(frame.weight).ravel()
        image = self._here(frame.image).reshape(-1, 3)
        ray_length = self._ray_lengths(frame).ravel()
        corners = (unpack_keys(keys).astype(np.float64) * BLOCK_SIZE + 0.5) * voxel_size
        for start in range(0, len(slots), _BLOCKS_AT_A_TIME):
            part = slice(start, start + _BLOCKS_AT_A_TIME)
            voxel, pixel, picture_pixel, z = self._projected(
                self._here(slots[part]), corners[part], frame, voxel_size
            )
            ahead = (depth[pixel] - z) * ray_length[pixel]
            seen = (depth[pixel] > 0) & (ahead >= float(np.float32(-truncation)))
            voxel, pixel, picture_pixel = voxel[seen], pixel[seen], picture_pixel[seen]
            value = (ahead[seen] * float(np.float32(1 / truncation))).clamp(max=1.0)
            self._blend(voxel, value, sign * depth_weight[pixel], image[picture_pixel].float())

    def read(self, slots: NDArray[np.int64]) -> VoxelValues:
        """See `Voxels`."""
        chosen = self._here(slots)
        tsdf, weight, color = (
            values[chosen].cpu().numpy() for values in (self._tsdf, self._weight, self._color)
        )
        return tsdf, weight, color

    def write(self, slots: NDArray[np.int64], values: VoxelValues) -> None:
        """See `Voxels`."""
        chosen = self._here(slots)
        for kept, fresh in zip((self._tsdf, self._weight, self._color), values, strict=True):
            kept[chosen] = self._here(fresh)

    def clear(self, slots: NDArray[np.int64]) -> None:
        """See `Voxels`."""
        chosen = self._here(slots)
        for kept in (self._tsdf, self._weight, self._color):
            kept[chosen] = 0

    # -- parts -----------------------------------------------------------------------------

    def _projected(
        self, slots: Tensor, corners: NDArray[np.float64], frame: DepthFrame, voxel_size: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where the voxels of blocks, whose corners are (n, 3), come to lie in a frame.

        Returns:
            Of those in the depth map: index of voxel, of pixel in the depth map and in the picture, and z.
        """
        pose = invert_pose(frame.camera_to_world)
        begin = self._here((corners @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32))
        step = (pose[:3, :3] * voxel_size).astype(np.float32).tolist()
        along = torch.arange(BLOCK_SIZE, dtype=torch.float32, device=self._device)
        x, y, z = (
            begin[:, axis, None, None, None]
            + along[:, None, None] * step[axis][2]
            + along[:, None] * step[axis][1]
            + along * step[axis][0]
            for axis in range(3)
        )
        fx, fy, cx, cy = frame.camera.astype(np.float32).tolist()
        over_z = 1.0 / z
        u, v = fx * x * over_z + cx, fy * y * over_z + cy
        height, width = frame.depth.shape
        inside = (z > 0) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
        u, v, z = u[inside], v[inside], z[inside]
        place = (slots[:, None] * VOXELS + torch.arange(VOXELS, device=self._device)).view_as(x)
        affine = frame.to_image.astype(np.float32).tolist()
        rows, columns, _ = frame.image.shape
        across, down = (a * u + b * v + c for a, b, c in affine)
        across, down = across.long().clamp(0, columns - 1), down.long().clamp(0, rows - 1)
        return place[inside], v.long() * width + u.long(), down * columns + across, z

    def _ray_lengths(self, frame: DepthFrame) -> Tensor:
        """Length (h, w) of the ray of each pixel to z = 1."""
        fx, fy, cx, cy = frame.camera.astype(np.float32).tolist()
        height, width = frame.depth.shape
        column = torch.arange(width, dtype=torch.float32, device=self._device)
        row = torch.arange(height, dtype=torch.float32, device=self._device)
        x, y = (column + 0.5 - cx) * (1 / fx), (row + 0.5 - cy) * (1 / fy)
        return torch.sqrt(1.0 + x * x + (y * y)[:, None])

    def _blend(self, voxel: Tensor, value: Tensor, weight: Tensor, color: Tensor) -> None:
        """Bring values, weights (n,) and colours (n, 3) into the means of as many different voxels (n,)."""
        tsdf, total, mean = self._tsdf.view(-1), self._weight.view(-1), self._color.view(-1, 3)
        after = total[voxel] + weight
        left = after > 0  # elsewhere the last frame of a voxel was taken out
        share = weight / after
        fused = tsdf[voxel] + (value - tsdf[voxel]) * share
        painted = mean[voxel] + (color - mean[voxel]) * share[:, None]
        total[voxel] = torch.where(left, after, 0.0)
        tsdf[voxel] = torch.where(left, fused, 0.0)
        mean[voxel] = torch.where(left[:, None], painted, 0.0)

    def _here(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)
