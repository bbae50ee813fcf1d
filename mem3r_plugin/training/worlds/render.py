"""Ray casting: what a camera sees of a world, with exact depth.

Pictures are cut into square tiles. Each primitive is tested only against the tiles that its bounding box
may touch, a depth buffer keeps the nearest hit, and every pixel is shaded once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds import surfaces
from mem3r_plugin.training.worlds.primitives import (
    FLAT,
    Primitives,
    Shape,
    faces_camera,
    inverse_depth,
    linear_forms,
    stack,
)
from mem3r_plugin.training.worlds.textures import TexturePool

_SHADE_REACH = 0.3
"""Metres over which the shade of an edge falls to 1/e."""
_SMALLEST = 0.3
"""Primitives that look smaller than this many pixels across are left out."""
_PIXELS_AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 22}


@dataclass(frozen=True)
class Lighting:
    """Lamps, or the sun as a lamp far away, and the light from all around."""

    position: Tensor
    """World positions, float32, (lamps, 3)."""
    colour: Tensor
    """Brightness at the lamp, float32, (lamps, 3)."""
    reach: Tensor
    """Distance in metres at which a lamp's light is halved, float32, (lamps)."""
    ambient: Tensor
    """Light from all around, float32, (3)."""
    sky: Tensor
    """Colours of the sky at the horizon and overhead, float32, (2, 3)."""


@dataclass(frozen=True)
class RenderedViews:
    """T pictures of one world with their ground truth."""

    images: Tensor
    """RGB in [0, 1], float32, (T, 3, H, W)."""
    depth: Tensor
    """z-depth in metres at pixel centres, float32, (T, H, W); 0 where there is only sky."""
    camera_to_world: Tensor
    """Poses, float64, (T, 4, 4), OpenCV axes."""
    intrinsics: Intrinsics
    """The camera, pixel centres at half-integers."""


@dataclass(frozen=True)
class _Frames:
    """A batch of F cameras with the primitives each may see, (F, P)."""

    primitives: Primitives
    lighting: Lighting
    camera_to_world: Tensor
    origin: Tensor
    """Camera positions in local coordinates, float64, (F, P, 3)."""
    directions: Tensor
    """Homogeneous pixels to local ray directions, float64, (F, P, 3, 3)."""
    rays: Tensor
    """Homogeneous pixels to world ray directions, float64, (F, 3, 3)."""
    focal: Tensor
    """Focal lengths in pixels, float64, (F)."""


def render(
    primitives: list[Primitives],
    lighting: list[Lighting],
    pool: TexturePool,
    camera_to_world: Tensor,
    intrinsics: list[Intrinsics],
    supersample: int = 1,
) -> tuple[Tensor, Tensor]:
    """Renders T views of each of B worlds; all pictures have the same size.

    Args:
        primitives: the shapes of each world, B of them.
        lighting: the lights of each world, equally many lamps in each.
        pool: the textures the surfaces refer to.
        camera_to_world: poses in each world's own axes, float64, (B, T, 4, 4).
        intrinsics: the camera used in each world; sizes must agree.
        supersample: side of the grid of samples that are averaged for a pixel's colour.

    Returns:
        images in [0, 1], (B, T, 3, H, W), and z-depth at pixel centres, (B, T, H, W), 0 for sky.
    """
    worlds, views = camera_to_world.shape[:2]
    width, height = intrinsics[0].width, intrinsics[0].height
    everything = stack(primitives)
    lights = Lighting(
        *(
            torch.stack([getattr(each, name) for each in lighting])
            for name in Lighting.__annotations__
        )
    )
    poses = camera_to_world.flatten(0, 1)
    world = torch.arange(worlds, device=poses.device).repeat_interleave(views)
    limit = _PIXELS_AT_ONCE["cuda" if poses.is_cuda else "cpu"]
    size = max(1, limit // (width * height * supersample**2))
    images, depths = [], []
    for some_poses, some_worlds in zip(poses.split(size), world.split(size), strict=True):
        cameras = [intrinsics[index] for index in some_worlds.tolist()]
        shapes = Primitives(*(value[some_worlds] for value in vars(everything).values()))
        lamps = Lighting(*(value[some_worlds] for value in vars(lights).values()))
        frames = _prepare(shapes, lamps, some_poses, cameras)
        image, depth = _render_frames(frames, pool, width, height)
        if supersample > 1:
            fine = _prepare(
                shapes, lamps, some_poses, [_scaled(each, supersample) for each in cameras]
            )
            image, _ = _render_frames(fine, pool, width * supersample, height * supersample)
            image = torch.nn.functional.avg_pool2d(image, supersample)
        images.append(image)
        depths.append(depth)
    return (
        torch.cat(images).view(worlds, views, 3, height, width),
        torch.cat(depths).view(worlds, views, height, width),
    )


def _scaled(camera: Intrinsics, factor: int) -> Intrinsics:
    return replace(
        camera, **{name: getattr(camera, name) * factor for name in Intrinsics.__annotations__}
    )


def _prepare(
    primitives: Primitives, lighting: Lighting, poses: Tensor, cameras: list[Intrinsics]
) -> _Frames:
    calibration = torch.stack([torch.from_numpy(each.matrix) for each in cameras]).to(poses.device)
    rays = poses[:, :3, :3] @ torch.linalg.inv(calibration)
    position = poses[:, None, :3, 3]
    origin = (primitives.to_local @ (position - primitives.centre).unsqueeze(-1)).squeeze(-1)
    directions = primitives.to_local @ rays[:, None]
    return _Frames(primitives, lighting, poses, origin, directions, rays, calibration[:, 0, 0])


def _render_frames(
    frames: _Frames, pool: TexturePool, width: int, height: int
) -> tuple[Tensor, Tensor]:
    side = 16 if width <= 192 else 32
    columns, rows = -(-width // side), -(-height // side)
    touched = _touched_tiles(frames, side, columns, rows)
    inverse, nearest = _cast(frames, touched, side, columns, rows)

    def untiled(values: Tensor) -> Tensor:
        grid = values.view(-1, rows, columns, side, side).transpose(2, 3)
        return grid.reshape(-1, rows * side, columns * side)[:, :height, :width].flatten(1)

    inverse, nearest = untiled(inverse), untiled(nearest)
    image, depth = _shade(frames, pool, inverse, nearest, width)
    return image.view(-1, 3, height, width), depth.view(-1, height, width)


def _touched_tiles(frames: _Frames, side: int, columns: int, rows: int) -> Tensor:
    """Which tiles the bounding box of each primitive may touch, bool (F, rows, columns, P).

    A tile is bounded by planes through the camera, so corners behind the camera need no clipping.
    """
    corners = frames.primitives.corners() - frames.camera_to_world[:, None, None, :3, 3]
    x, y, z = (corners @ torch.linalg.inv(frames.rays).mT[:, None]).unbind(-1)

    def overlap(coordinate: Tensor, count: int) -> Tensor:
        lines = side * torch.arange(count + 1, device=z.device, dtype=z.dtype)
        beyond = coordinate.unsqueeze(-1) - lines * z.unsqueeze(-1)
        return (beyond.amax(2)[..., :-1] > 0) & (beyond.amin(2)[..., 1:] < 0)

    span = (corners.amax(2) - corners.amin(2)).norm(dim=-1)
    large = span * frames.focal[:, None] > _SMALLEST * z.amin(2)
    seen = faces_camera(frames.primitives.shape, frames.origin) & (z.amax(2) > 0) & large
    across = overlap(x, columns) & seen.unsqueeze(-1)
    touched = across[:, :, None, :] & overlap(y, rows)[..., None]
    return touched.permute(0, 2, 3, 1)


def _cast(
    frames: _Frames, touched: Tensor, side: int, columns: int, rows: int
) -> tuple[Tensor, Tensor]:
    """Inverse depth and index into (F * P) of the nearest hit, each (tiles, side, side); 0 for none."""
    count, device = frames.primitives.shape.shape[1], touched.device
    tiles = touched.shape[0] * rows * columns
    frame = torch.arange(touched.shape[0], device=device).repeat_interleave(rows * columns)
    top = (
        torch.arange(rows, device=device).mul(side).repeat_interleave(columns).repeat(len(touched))
    )
    left = torch.arange(columns, device=device).mul(side).repeat(rows * len(touched))
    touched = touched.reshape(tiles, count)
    present = frames.primitives.shape[frame]
    best = torch.zeros(tiles, side, side, device=device)
    nearest = torch.zeros(tiles, side, side, dtype=torch.int64, device=device)
    steps = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    for shape in Shape:
        mine = touched & (present == shape)
        amount, order = mine.sum(1).sort(descending=True, stable=True)
        tile, primitive = mine[order].nonzero(as_tuple=True)
        if len(tile) == 0:
            continue
        # The k-th primitives of all tiles come k-th; tiles with more primitives come first, so that
        # each round works on a prefix of the sorted tiles.
        slot = torch.arange(len(tile), device=device) - (amount.cumsum(0) - amount)[tile]
        _, by_slot = slot.sort(stable=True)
        rounds = torch.bincount(slot).tolist()
        tile, primitive = order[tile[by_slot]], primitive[by_slot]
        flat = frame[tile] * count + primitive
        forms, constants = linear_forms(
            shape, frames.origin.flatten(0, 1)[flat], frames.directions.flatten(0, 1)[flat]
        )
        along_x, along_y, constant = forms.unbind(-1)
        constant = constant + along_x * left[tile, None] + along_y * top[tile, None]
        horizontal = along_x.float()[..., None] * steps
        vertical = along_y.float()[..., None] * steps + constant.float()[..., None]
        constants = constants.float()[..., None, None]
        sorted_best, sorted_nearest = best[order], nearest[order]
        start = 0
        for size in rounds:
            part = slice(start, start + size)
            values = horizontal[part, :, None, :] + vertical[part, :, :, None]
            inverse = inverse_depth(shape, values, constants[part])
            closer = inverse > sorted_best[:size]
            torch.where(closer, inverse, sorted_best[:size], out=sorted_best[:size])
            torch.where(
                closer, flat[part, None, None], sorted_nearest[:size], out=sorted_nearest[:size]
            )
            start += size
        best[order], nearest[order] = sorted_best, sorted_nearest
    return best, nearest


def _shade(
    frames: _Frames, pool: TexturePool, inverse: Tensor, nearest: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Colours (F, 3, pixels) and depth (F, pixels) of the nearest hits."""
    views, pixels = inverse.shape
    device = inverse.device
    hit = inverse > 0
    depth = torch.where(hit, 1 / inverse.clamp(min=1e-9), 0.0)
    index = torch.arange(pixels, device=device)
    x, y = (index % width).float() + 0.5, (index // width).float() + 0.5

    def per_pixel(table: Tensor) -> Tensor:
        """Rows (F, P, n) of the primitives seen, as (n, F, pixels)."""
        return table.flatten(0, 1).float()[nearest.flatten()].T.contiguous().view(-1, views, pixels)

    row = per_pixel(frames.primitives.surface)
    geometry = per_pixel(torch.cat([frames.directions.flatten(2), frames.origin], dim=-1))
    local = [
        geometry[9 + axis]
        + depth * (geometry[3 * axis] * x + geometry[3 * axis + 1] * y + geometry[3 * axis + 2])
        for axis in range(3)
    ]
    rays = frames.rays.float()[..., None]
    ray = [rays[:, axis, 0] * x + rays[:, axis, 1] * y + rays[:, axis, 2] for axis in range(3)]
    normal = _normals(row, local)
    first, second = _surface_coordinates(row, local)

    length = torch.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
    facing = -(normal[0] * ray[0] + normal[1] * ray[1] + normal[2] * ray[2]) / length
    # The footprint of a pixel is stretched by 1 / facing along one direction; blurring by the geometric
    # mean of both keeps floors from washing out far away.
    footprint = depth / frames.focal.float()[:, None] * row[surfaces.TEXELS_PER_METRE]
    level = torch.log2(footprint.clamp(min=1e-6)) - 0.5 * torch.log2(facing.clamp(min=0.05))
    matrix, offset = row[surfaces.UV_MATRIX], row[surfaces.UV_OFFSET]
    u = matrix[0] * first + matrix[1] * second + offset[0]
    v = matrix[2] * first + matrix[3] * second + offset[1]
    weights = pool.sample(
        row[surfaces.TEXTURE].long().flatten(), torch.stack([u, v], -1).view(-1, 2), level.flatten()
    )
    weights = weights.T.contiguous().view(3, 1, views, pixels)
    palette = row[surfaces.PALETTE].view(3, 3, views, pixels)
    albedo = (weights * palette).sum(0)

    position = frames.camera_to_world[:, :3, 3].float()
    point = [position[:, axis, None] + depth * ray[axis] for axis in range(3)]
    light = _light(frames.lighting, point, normal) * _edge_shade(row, first, second)
    colour = albedo * torch.lerp(light, torch.ones_like(light), row[surfaces.GLOW])
    sky = _sky(frames.lighting, ray[2] / length, ray[0] / length)
    return torch.where(hit, colour, sky).clamp(0, 1).transpose(0, 1), depth


def _normals(row: Tensor, local: list[Tensor]) -> list[Tensor]:
    """Unit normals in the world: z of flat shapes, the gradient of the quadric of round ones."""
    kind = row[surfaces.ROUND]
    curved, sphere = kind > 0, kind > 1
    gradient = [
        torch.where(curved, local[0], 0.0),
        torch.where(curved, local[1], 0.0),
        torch.where(sphere, local[2], torch.where(curved, 0.0, 1.0)),
    ]
    to_local = row[surfaces.TO_LOCAL]
    normal = [
        gradient[0] * to_local[axis]
        + gradient[1] * to_local[3 + axis]
        + gradient[2] * to_local[6 + axis]
        for axis in range(3)
    ]
    scale = torch.rsqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2 + 1e-20)
    return [component * scale for component in normal]


def _surface_coordinates(row: Tensor, local: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Local x, y of flat shapes; angle and height of round ones."""
    curved = row[surfaces.ROUND] > 0
    first = torch.where(curved, torch.atan2(local[1], local[0]), local[0])
    return first, torch.where(curved, local[2], local[1])


def _edge_shade(row: Tensor, first: Tensor, second: Tensor) -> Tensor:
    extent, shade = row[surfaces.EXTENT] / _SHADE_REACH, row[surfaces.SHADE]
    total = shade[0] * torch.exp(-extent[0] * (1 + first))
    total = total + shade[1] * torch.exp(-extent[0] * (1 - first))
    total = total + shade[2] * torch.exp(-extent[1] * (1 + second))
    total = total + shade[3] * torch.exp(-extent[1] * (1 - second))
    return 1 - total.clamp(max=0.8)


def _light(lighting: Lighting, point: list[Tensor], normal: list[Tensor]) -> Tensor:
    """Light arriving at the surface, (3, F, pixels): Lambert's law plus a little more from above."""
    light = lighting.ambient.T[:, :, None] * (0.85 + 0.15 * normal[2])
    for lamp in range(lighting.reach.shape[1]):
        away = [lighting.position[:, lamp, axis, None] - point[axis] for axis in range(3)]
        squared = away[0] ** 2 + away[1] ** 2 + away[2] ** 2
        cosine = away[0] * normal[0] + away[1] * normal[1] + away[2] * normal[2]
        cosine = cosine.clamp(min=0) * torch.rsqrt(squared + 1e-6)
        strength = cosine / (1 + squared / lighting.reach[:, lamp, None] ** 2)
        light = light + lighting.colour[:, lamp].T[:, :, None] * strength
    return light


def _sky(lighting: Lighting, up: Tensor, side: Tensor) -> Tensor:
    """Sky (3, F, pixels): a gradient from the horizon up, with a few streaks of cloud."""
    height = up.clamp(0, 1)
    clouds = torch.sin(9 * side + 5 * torch.sin(7 * up)) * torch.sin(13 * up + 3 * side)
    horizon, zenith = lighting.sky[:, 0].T[:, :, None], lighting.sky[:, 1].T[:, :, None]
    colour = torch.lerp(
        horizon, zenith, height.sqrt().expand_as(horizon.expand(-1, -1, up.shape[1]))
    )
    return colour + 0.12 * (clouds - 0.3).clamp(min=0) * height
