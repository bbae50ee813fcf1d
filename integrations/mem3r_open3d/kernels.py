"""The inner loops of fusion, compiled by numba; all release the GIL.

Open3D's own `integrate` knows neither weights per pixel nor taking a frame out again, and runs on one
core. These loops use both; `torch_voxels` has those that fuse for GPUs.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

BLOCK_SIZE = 8
"""Voxels along the edge of a block."""

VOXELS = BLOCK_SIZE**3
"""Voxels of a block."""

REGION_SIZE = 8
"""Blocks along the edge of a region, the unit in which blocks come from disk and go there."""

KEY_BITS = 21
"""Bits per axis of a packed block key."""

KEY_LIMIT = 1 << (KEY_BITS - 1)
"""Block coordinates lie in [-KEY_LIMIT, KEY_LIMIT)."""

_AROUND = np.array([step for step in product((-1, 0, 1), repeat=3) if any(step)])
_EMPTY = np.int64(-1)
_HASH = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True, inline="always")
def _pack(x: int, y: int, z: int) -> int:
    return ((x + KEY_LIMIT) << (2 * KEY_BITS)) | ((y + KEY_LIMIT) << KEY_BITS) | (z + KEY_LIMIT)


@njit(nogil=True, cache=True)
def touched_blocks(
    depth: NDArray[np.float32],
    camera: NDArray[np.float64],
    camera_to_world: NDArray[np.float64],
    block_length: float,
    truncation: float,
    pixel_step: int,
    limit: int,
) -> NDArray[np.int64]:
    """Packed keys of the blocks within the truncation band of a depth map, in the order first met.

    Args:
        depth: z-depth, shape (h, w); 0 where there is none.
        camera: fx, fy, cx, cy with pixel centres at half-integers.
        camera_to_world: Pose, shape (4, 4).
        block_length: Edge of a block, in the unit of depth.
        truncation: Half the width of the band, in the unit of depth.
        pixel_step: Only every n-th row and column is looked at.
        limit: Stop when there are more blocks than this.

    Returns:
        Keys, shape (n,); n = limit + 1 says that there are more than `limit`.
    """
    height, width = depth.shape
    bits = 12
    table = np.full(1 << bits, _EMPTY)
    keys = np.empty(1 << (bits - 1), np.int64)
    count = 0
    last = _EMPTY
    fx, fy, cx, cy = camera
    pose = camera_to_world
    for v in range(pixel_step // 2, height, pixel_step):
        for u in range(pixel_step // 2, width, pixel_step):
            z = depth[v, u]
            if z <= 0:
                continue
            x_ray = (u + 0.5 - cx) / fx
            y_ray = (v + 0.5 - cy) / fy
            ray_x = pose[0, 0] * x_ray + pose[0, 1] * y_ray + pose[0, 2]
            ray_y = pose[1, 0] * x_ray + pose[1, 1] * y_ray + pose[1, 2]
            ray_z = pose[2, 0] * x_ray + pose[2, 1] * y_ray + pose[2, 2]
            length = math.sqrt(1.0 + x_ray * x_ray + y_ray * y_ray)
            near = max(z - truncation / length, 0.0)
            far = z + truncation / length
            samples = math.ceil(2.0 * (far - near) * length / block_length) + 1
            for i in range(samples):
                t = near + (far - near) * i / (samples - 1)
                key = _pack(
                    math.floor((pose[0, 3] + t * ray_x) / block_length),
                    math.floor((pose[1, 3] + t * ray_y) / block_length),
                    math.floor((pose[2, 3] + t * ray_z) / block_length),
                )
                if key == last:
                    continue
                last = key
                slot = (np.uint64(key) * _HASH) >> np.uint64(64 - bits)
                while table[slot] != _EMPTY and table[slot] != key:
                    slot = (slot + np.uint64(1)) & np.uint64((1 << bits) - 1)
                if table[slot] == key:
                    continue
                table[slot] = key
                if count == len(keys):
                    bits += 1
                    table = np.full(1 << bits, _EMPTY)
                    for k in keys:
                        slot = (np.uint64(k) * _HASH) >> np.uint64(64 - bits)
                        while table[slot] != _EMPTY:
                            slot = (slot + np.uint64(1)) & np.uint64((1 << bits) - 1)
                        table[slot] = k
                    slot = (np.uint64(key) * _HASH) >> np.uint64(64 - bits)
                    while table[slot] != _EMPTY:
                        slot = (slot + np.uint64(1)) & np.uint64((1 << bits) - 1)
                    table[slot] = key
                    larger = np.empty(2 * count, np.int64)
                    larger[:count] = keys
                    keys = larger
                keys[count] = key
                count += 1
                if count > limit:
                    return keys[:count].copy()
    return keys[:count].copy()


def pack_keys(coordinates: NDArray[np.integer]) -> NDArray[np.int64]:
    """Block coordinates (n, 3) as one number each (n,)."""
    x, y, z = coordinates.astype(np.int64).T + KEY_LIMIT
    return (x << 2 * KEY_BITS) | (y << KEY_BITS) | z


def unpack_keys(keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """The block coordinates (n, 3) of packed keys (n,)."""
    mask = 2 * KEY_LIMIT - 1
    axes = [keys >> 2 * KEY_BITS, (keys >> KEY_BITS) & mask, keys & mask]
    return np.ascontiguousarray((np.stack(axes, axis=-1) - KEY_LIMIT).astype(np.int32))


def region_keys(block_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Packed keys (n,) of the regions that blocks of packed keys (n,) lie in."""
    return pack_keys(unpack_keys(block_keys) // REGION_SIZE)


def neighbours(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The packed keys (n, 26) of what lies around blocks or regions of packed keys (n,)."""
    return pack_keys((unpack_keys(keys)[:, None] + _AROUND).reshape(-1, 3)).reshape(-1, 26)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy", fastmath={"contract", "arcp"})
def update_blocks(
    tsdf: NDArray[np.float32],
    weight: NDArray[np.float32],
    color: NDArray[np.float32],
    slots: NDArray[np.int64],
    blocks: NDArray[np.int32],
    depth: NDArray[np.float32],
    depth_weight: NDArray[np.float32],
    image: NDArray[np.uint8],
    to_image: NDArray[np.float64],
    camera: NDArray[np.float64],
    world_to_camera: NDArray[np.float64],
    voxel_size: float,
    truncation: float,
    sign: float,
) -> None:
    """Fuse a depth map into blocks, or take it out again.

    The running weighted mean of truncated signed distances along the ray of Curless and Levoy (SIGGRAPH
    1996). A voxel further than the truncation behind the surface is left alone. A voxel stands for the
    middle of its cell. Both are so in Open3D's ScalableTSDFVolume: where depth is coarse, the surfaces of
    lattices that are half a voxel apart differ by most of a voxel.

    Args:
        tsdf: Signed distance over truncation, shape (slots, 512), voxels in z, y, x order.
        weight: Sum of weights, shape (slots, 512).
        color: Mean RGB from 0 to 255, shape (slots, 512, 3).
        slots: The rows of the blocks to update, shape (n,).
        blocks: Their block coordinates, shape (n, 3).
        depth: z-depth, shape (h, w); 0 where there is none.
        depth_weight: Weight of each depth, shape (h, w), multiples of 1/256, so that sums are exact.
        image: RGB, shape (H, W, 3).
        to_image: The 2x3 affine map from pixels of the depth map to those of the image.
        camera: fx, fy, cx, cy with pixel centres at half-integers.
        world_to_camera: Inverse pose, shape (4, 4).
        voxel_size: Distance of two voxels, in the unit of depth.
        truncation: In the unit of depth.
        sign: 1 fuses, -1 takes out what was fused.
    """
    height, width = depth.shape
    rows, columns, _ = image.shape
    affine = to_image.astype(np.float32)
    fx, fy = np.float32(camera[0]), np.float32(camera[1])
    cx, cy = np.float32(camera[2]), np.float32(camera[3])
    pose = world_to_camera
    step = (pose[:3, :3] * voxel_size).astype(np.float32)
    inverse_truncation = np.float32(1.0 / truncation)
    band = np.float32(-truncation)
    one, half = np.float32(1.0), np.float32(0.5)
    over_fx, over_fy = one / fx, one / fy
    signed = np.float32(sign)
    for b in prange(len(slots)):
        slot = slots[b]
        corner = (blocks[b].astype(np.float64) * BLOCK_SIZE + 0.5) * voxel_size
        x0 = np.float32(
            pose[0, 0] * corner[0] + pose[0, 1] * corner[1] + pose[0, 2] * corner[2] + pose[0, 3]
        )
        y0 = np.float32(
            pose[1, 0] * corner[0] + pose[1, 1] * corner[1] + pose[1, 2] * corner[2] + pose[1, 3]
        )
        z0 = np.float32(
            pose[2, 0] * corner[0] + pose[2, 1] * corner[1] + pose[2, 2] * corner[2] + pose[2, 3]
        )
        voxel = -1
        for k in range(BLOCK_SIZE):
            for j in range(BLOCK_SIZE):
                xr = x0 + np.float32(k) * step[0, 2] + np.float32(j) * step[0, 1]
                yr = y0 + np.float32(k) * step[1, 2] + np.float32(j) * step[1, 1]
                zr = z0 + np.float32(k) * step[2, 2] + np.float32(j) * step[2, 1]
                for i in range(BLOCK_SIZE):
                    voxel += 1
                    z = zr + np.float32(i) * step[2, 0]
                    if z <= np.float32(0.0):
                        continue
                    over_z = one / z
                    u = fx * (xr + np.float32(i) * step[0, 0]) * over_z + cx
                    v = fy * (yr + np.float32(i) * step[1, 0]) * over_z + cy
                    if u < 0 or v < 0 or u >= width or v >= height:
                        continue
                    column, row = int(u), int(v)
                    d = depth[row, column]
                    if d <= 0:
                        continue
                    x_ray = (np.float32(column) + half - cx) * over_fx
                    y_ray = (np.float32(row) + half - cy) * over_fy
                    distance = (d - z) * math.sqrt(one + x_ray * x_ray + y_ray * y_ray)
                    if distance < band:
                        continue
                    w = signed * depth_weight[row, column]
                    total = weight[slot, voxel] + w
                    if total <= np.float32(0.0):  # the last frame of this voxel was taken out
                        weight[slot, voxel] = np.float32(0.0)
                        tsdf[slot, voxel] = np.float32(0.0)
                        color[slot, voxel] = np.float32(0.0)
                        continue
                    weight[slot, voxel] = total
                    share = w / total
                    value = min(distance * inverse_truncation, one)
                    tsdf[slot, voxel] += (value - tsdf[slot, voxel]) * share
                    x = int(affine[0, 0] * u + affine[0, 1] * v + affine[0, 2])
                    y = int(affine[1, 0] * u + affine[1, 1] * v + affine[1, 2])
                    x, y = min(max(x, 0), columns - 1), min(max(y, 0), rows - 1)
                    for c in range(3):
                        fresh = np.float32(image[y, x, c])
                        color[slot, voxel, c] += (fresh - color[slot, voxel, c]) * share


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "arcp"})
def surface_cosine(depth: NDArray[np.float32], camera: NDArray[np.float64]) -> NDArray[np.float32]:
    """Cosine (h, w) of the angle between each viewing ray and the normal of the surface it meets.

    Along each axis the surface is taken to go on to the neighbour of more similar depth, so the rim of
    an object keeps its own surface, while a flying pixel between two surfaces looks edge-on. About 0
    where depth has no neighbour along an axis.
    """
    height, width = depth.shape
    fx, fy = np.float32(camera[0]), np.float32(camera[1])
    cx, cy = np.float32(camera[2] - 0.5), np.float32(camera[3] - 0.5)
    one, none, steep = np.float32(1.0), np.float32(0.0), np.float32(1e6)
    padded = np.zeros((height + 2, width + 2), np.float32)
    padded[1:-1, 1:-1] = depth
    cosine = np.empty((height, width), np.float32)
    for v in range(height):
        y = (np.float32(v) - cy) / fy
        for u in range(width):  # without branches, for the vector units of the processor
            z = padded[v + 1, u + 1]
            left, right = padded[v + 1, u], padded[v + 1, u + 2]
            above, below = padded[v, u + 1], padded[v + 2, u + 1]
            # Change of depth for one pixel along each axis.
            to_left = z - left if left > none else steep
            to_right = right - z if right > none else steep
            du = to_left if abs(to_left) <= abs(to_right) else to_right
            to_above = z - above if above > none else steep
            to_below = below - z if below > none else steep
            dv = to_above if abs(to_above) <= abs(to_below) else to_below
            # The normal of the plane z = z0 + du u + dv v, with x = (u - cx) z / fx.
            x = (np.float32(u) - cx) / fx
            nx, ny = du * fx, dv * fy
            nz = z + nx * x + ny * y
            cosine[v, u] = z / math.sqrt((x * x + y * y + one) * (nx * nx + ny * ny + nz * nz))
    return cosine


@njit(nogil=True, cache=True, error_model="numpy")
def looked_through(
    depth: NDArray[np.float32],
    camera: NDArray[np.float64],
    camera_to_world: NDArray[np.float64],
    other_depth: NDArray[np.float32],
    other_camera: NDArray[np.float64],
    other_world_to_camera: NDArray[np.float64],
    tolerance: float,
) -> NDArray[np.bool_]:
    """Pixels (h, w) whose surface another camera should have seen but saw something farther instead.

    Args:
        depth: z-depth, shape (h, w); 0 where there is none.
        camera: fx, fy, cx, cy with pixel centres at half-integers.
        camera_to_world: Pose, shape (4, 4).
        other_depth: z-depth of the other camera, shape (h', w').
        other_camera: Its fx, fy, cx, cy.
        other_world_to_camera: Its inverse pose, shape (4, 4).
        tolerance: How much farther, as a share of the depth that it should have seen.
    """
    height, width = depth.shape
    other_height, other_width = other_depth.shape
    fx, fy, cx, cy = camera
    gx, gy, dx, dy = other_camera
    motion = other_world_to_camera @ camera_to_world
    through = np.zeros((height, width), np.bool_)
    for v in range(height):
        for u in range(width):
            z = depth[v, u]
            if z <= 0:
                continue
            x, y = (u + 0.5 - cx) / fx * z, (v + 0.5 - cy) / fy * z
            ahead = motion[2, 0] * x + motion[2, 1] * y + motion[2, 2] * z + motion[2, 3]
            if ahead <= 0:
                continue
            right = motion[0, 0] * x + motion[0, 1] * y + motion[0, 2] * z + motion[0, 3]
            down = motion[1, 0] * x + motion[1, 1] * y + motion[1, 2] * z + motion[1, 3]
            column = math.floor(gx * right / ahead + dx)
            row = math.floor(gy * down / ahead + dy)
            if 0 <= column < other_width and 0 <= row < other_height:
                through[v, u] = other_depth[row, column] > (1.0 + tolerance) * ahead
    return through
