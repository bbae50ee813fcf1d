"""Ray casting: what a camera sees of a world, with exact depth.

Pictures are cut into square tiles. Each primitive is tested only against the tiles that its bounding box
may touch, a depth buffer keeps the nearest hit, and every pixel is shaded once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds import surfaces
from mem3r_plugin.training.worlds.meshes import Meshes, MeshHits
from mem3r_plugin.training.worlds.primitives import (
    Primitives,
    Shape,
    concatenate,
    faces_camera,
    inverse_depth,
    linear_forms,
)
from mem3r_plugin.training.worlds.textures import TexturePool

_SHADE_REACH = 0.3
"""Metres over which the shade of an edge falls to 1/e."""
_CLEAR = 0.01
"""Metres above a surface from which the way to a lamp is asked, lest it shades itself."""
_UMBRA = 0.15
"""Share of a lamp's light that things let pass: lamps are no points."""
_SMALLEST = 0.3
"""Primitives that look smaller than this many pixels across are left out."""
_PIXELS_AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 22}
"""Samples rendered together: what fits the cache of a CPU, what fills a GPU."""


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

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.images)

    def frames(self, chosen: Tensor) -> RenderedViews:
        """The pictures of these indices."""
        return replace(
            self,
            images=self.images[chosen],
            depth=self.depth[chosen],
            camera_to_world=self.camera_to_world[chosen],
        )


@dataclass(frozen=True)
class _Frames:
    """A batch of F cameras, and the M pairs of a camera and a primitive that it may see."""

    camera_to_world: Tensor
    """Poses, float64, (F, 4, 4)."""
    rays: Tensor
    """Homogeneous pixels to world ray directions, float64, (F, 3, 3)."""
    focal: Tensor
    """Focal lengths in pixels, float64, (F)."""
    lighting: Lighting
    """The lights of each camera's world, fields (F, ...)."""
    frame: Tensor
    """The camera of each pair, (M)."""
    primitive: Tensor
    """The primitive of each pair, (M)."""
    shape: Tensor
    """Its unit shape, (M)."""
    origin: Tensor
    """Camera positions in local coordinates, float64, (M, 3)."""
    directions: Tensor
    """Homogeneous pixels to local ray directions, float64, (M, 3, 3)."""
    meshes: list[Meshes | None]
    """The things of each camera's world, F of them."""


def render(
    primitives: list[Primitives],
    lighting: list[Lighting],
    pool: TexturePool,
    camera_to_world: Tensor,
    intrinsics: list[Intrinsics],
    supersample: int = 1,
    meshes: list[Meshes | None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Renders T views of each of B worlds; all pictures have the same size.

    Args:
        primitives: the shapes of each world, B of them.
        lighting: the lights of each world, equally many lamps in each.
        pool: the textures the surfaces refer to.
        camera_to_world: poses in each world's own axes, float64, (B, T, 4, 4).
        intrinsics: the camera used in each world; sizes must agree.
        supersample: side of the grid of samples that are averaged for a pixel's colour.
        meshes: the things of each world, if any has some.

    Returns:
        images in [0, 1], (B, T, 3, H, W), and z-depth at pixel centres, (B, T, H, W), 0 for sky.
    """
    worlds, views = camera_to_world.shape[:2]
    width, height = intrinsics[0].width, intrinsics[0].height
    scene = _Scene.gather(primitives, lighting, meshes or [None] * worlds)
    poses = camera_to_world.flatten(0, 1)
    calibration = torch.stack([torch.from_numpy(each.matrix) for each in intrinsics]).to(poses)
    world = torch.arange(worlds, device=poses.device).repeat_interleave(views)
    size = max(1, _PIXELS_AT_ONCE[poses.device.type] // (width * height * supersample**2))
    fine = torch.tensor([supersample, supersample, 1.0]).diag().to(poses)
    images, depths = [], []
    for some_poses, some_worlds in zip(poses.split(size), world.split(size), strict=True):
        camera = calibration[some_worlds]
        frames = scene.seen_from(some_poses, camera, some_worlds)
        image, depth = _render_frames(scene, frames, pool, width, height)
        if supersample > 1:
            frames = scene.seen_from(some_poses, fine @ camera, some_worlds)
            image, _ = _render_frames(
                scene, frames, pool, width * supersample, height * supersample
            )
            image = functional.avg_pool2d(image, supersample)
        images.append(image)
        depths.append(depth)
    return (
        torch.cat(images).view(worlds, views, 3, height, width),
        torch.cat(depths).view(worlds, views, height, width),
    )


@dataclass(frozen=True)
class _Scene:
    """The primitives of several worlds in one list, and where each world's begin."""

    primitives: Primitives
    corners: Tensor
    """Of the bounding boxes, (P, 8, 3)."""
    start: Tensor
    """First primitive of each world, (B)."""
    count: Tensor
    """Number of primitives of each world, (B)."""
    lighting: Lighting
    meshes: list[Meshes | None]

    @classmethod
    def gather(
        cls,
        primitives: list[Primitives],
        lighting: list[Lighting],
        meshes: list[Meshes | None],
    ) -> _Scene:
        everything = concatenate(primitives)
        count = torch.tensor([len(each) for each in primitives], device=everything.shape.device)
        lights = [
            torch.stack(values)
            for values in zip(*(vars(each).values() for each in lighting), strict=True)
        ]
        return cls(
            everything,
            everything.corners(),
            count.cumsum(0) - count,
            count,
            Lighting(*lights),
            meshes,
        )

    def seen_from(self, poses: Tensor, calibration: Tensor, world: Tensor) -> _Frames:
        """The primitives that face each of F cameras, each in its world (F)."""
        rays = poses[:, :3, :3] @ torch.linalg.inv(calibration)
        frame = torch.arange(len(poses), device=poses.device).repeat_interleave(self.count[world])
        first = self.count[world].cumsum(0) - self.count[world]
        primitive = (
            torch.arange(len(frame), device=poses.device) + (self.start[world] - first)[frame]
        )
        away = poses[frame, :3, 3] - self.primitives.centre[primitive]
        origin = (self.primitives.to_local[primitive] @ away.unsqueeze(-1)).squeeze(-1)
        facing = faces_camera(self.primitives.shape[primitive], origin)
        frame, primitive = frame[facing], primitive[facing]
        return _Frames(
            poses,
            rays,
            calibration[:, 0, 0],
            Lighting(*(value[world] for value in vars(self.lighting).values())),
            frame,
            primitive,
            self.primitives.shape[primitive],
            origin[facing],
            self.primitives.to_local[primitive] @ rays[frame],
            [self.meshes[each] for each in world.tolist()],
        )


def _render_frames(
    scene: _Scene, frames: _Frames, pool: TexturePool, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Colours (F, 3, height, width) and depth (F, height, width)."""
    tiling = _Tiling(16 if width <= 192 else 32, width, height)
    pair, tile = _touched_tiles(scene, frames, tiling)
    inverse, nearest = _cast(frames, tiling, pair, tile)
    inverse, nearest = tiling.joined(inverse), tiling.joined(nearest)
    things = _see_things(frames, inverse, width, height)
    image, depth = _shade(scene, frames, pool, inverse, nearest, things, width)
    return image.view(-1, 3, height, width), depth.view(-1, height, width)


@dataclass(frozen=True)
class _Tiling:
    """Pictures cut into square tiles, numbered row by row, picture by picture."""

    side: int
    width: int
    height: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.side)

    @property
    def rows(self) -> int:
        return -(-self.height // self.side)

    def joined(self, tiles: Tensor) -> Tensor:
        """Pictures (F, height * width) of tiles (F * rows * columns, side, side)."""
        grid = tiles.view(-1, self.rows, self.columns, self.side, self.side).transpose(2, 3)
        pictures = grid.reshape(-1, self.rows * self.side, self.columns * self.side)
        return pictures[:, : self.height, : self.width].flatten(1)


def _touched_tiles(scene: _Scene, frames: _Frames, tiling: _Tiling) -> tuple[Tensor, Tensor]:
    """Which tiles the bounding boxes of pairs may touch, as matching lists of pairs and tiles.

    A tile is bounded by planes through the camera, so corners behind the camera need no clipping.
    """
    corners = scene.corners[frames.primitive] - frames.camera_to_world[frames.frame, None, :3, 3]
    to_pixels = torch.linalg.inv(frames.rays).mT[frames.frame]
    x, y, z = (corners @ to_pixels).unbind(-1)

    def overlap(coordinate: Tensor, count: int) -> Tensor:
        lines = tiling.side * torch.arange(count + 1, device=z.device, dtype=z.dtype)
        beyond = coordinate.unsqueeze(-1) - lines * z.unsqueeze(-1)
        return (beyond.amax(1)[:, :-1] > 0) & (beyond.amin(1)[:, 1:] < 0)

    span = (corners.amax(1) - corners.amin(1)).norm(dim=-1)
    large = span * frames.focal[frames.frame] > _SMALLEST * z.amin(1)
    across = overlap(x, tiling.columns) & ((z.amax(1) > 0) & large).unsqueeze(-1)
    pair, row, column = (overlap(y, tiling.rows)[:, :, None] & across[:, None]).nonzero(
        as_tuple=True
    )
    return pair, (frames.frame[pair] * tiling.rows + row) * tiling.columns + column


def _cast(frames: _Frames, tiling: _Tiling, pair: Tensor, tile: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depth and pair of the nearest hit, each (tiles, side, side); 0 and any for none."""
    device, side = pair.device, tiling.side
    tiles = len(frames.rays) * tiling.rows * tiling.columns
    best = torch.zeros(tiles, side, side, device=device)
    nearest = torch.zeros(tiles, side, side, dtype=torch.int32, device=device)
    steps = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    shapes = frames.shape[pair]
    for shape in Shape:
        mine = (shapes == shape).nonzero().squeeze(1)
        if len(mine) == 0:
            continue
        chosen, order, rounds = _dealt(tile[mine], tiles)
        mine = mine[chosen]
        pairs, places = pair[mine], tile[mine]
        forms, constants = linear_forms(shape, frames.origin[pairs], frames.directions[pairs])
        along_x, along_y, constant = forms.unbind(-1)
        left = places % tiling.columns * side
        top = places // tiling.columns % tiling.rows * side
        constant = constant + along_x * left[:, None] + along_y * top[:, None]
        horizontal = (along_x.float()[..., None] * steps).unsqueeze(-2)
        vertical = (along_y.float()[..., None] * steps + constant.float()[..., None]).unsqueeze(-1)
        constants, pairs = constants.float()[..., None, None], pairs.int()[:, None, None]
        some_best, some_nearest = best[order], nearest[order]
        start = 0
        for size in rounds:
            part, first = slice(start, start + size), slice(0, size)
            inverse = inverse_depth(shape, horizontal[part] + vertical[part], constants[part])
            closer = inverse > some_best[first]
            some_best[first] = torch.where(closer, inverse, some_best[first])
            some_nearest[first] = torch.where(closer, pairs[part], some_nearest[first])
            start += size
        best[order], nearest[order] = some_best, some_nearest
    return best, nearest


def _dealt(tile: Tensor, tiles: int) -> tuple[Tensor, Tensor, list[int]]:
    """Deals what lies in tiles out in rounds, at most one thing a tile in each.

    Busy tiles come first, so that the n things of a round belong to the first n tiles, in order.

    Args:
        tile: the tile of each thing, (N).
        tiles: number of tiles.

    Returns:
        the things in the order they are dealt, (N); the tiles in their order, without empty ones; the
        number of things in each round.
    """
    amount, order = torch.bincount(tile, minlength=tiles).sort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(tiles, device=tile.device)
    ranks, by_rank = rank[tile].sort(stable=True)
    round_ = torch.arange(len(tile), device=tile.device) - (amount.cumsum(0) - amount)[ranks]
    _, by_round = round_.sort(stable=True)
    return by_rank[by_round], order[amount > 0], torch.bincount(round_).tolist()


def _see_things(
    frames: _Frames, inverse: Tensor, width: int, height: int
) -> list[tuple[int, MeshHits]]:
    """What is seen of meshes, and by which camera, in front of `inverse` (F, pixels), which it updates."""
    seen = []
    for frame, meshes in enumerate(frames.meshes):
        if meshes is None:
            continue
        hits = meshes.seen(frames.camera_to_world[frame, :3, 3], frames.rays[frame], width, height)
        hits = hits.at(hits.inverse > inverse[frame, hits.pixel].cpu()).to(inverse.device)
        inverse[frame, hits.pixel] = hits.inverse
        seen.append((frame, hits))
    return seen


def _shade(
    scene: _Scene,
    frames: _Frames,
    pool: TexturePool,
    inverse: Tensor,
    nearest: Tensor,
    things: list[tuple[int, MeshHits]],
    width: int,
) -> tuple[Tensor, Tensor]:
    """Colours (F, 3, pixels) and depth (F, pixels) of the nearest hits."""
    views, pixels = inverse.shape
    device = inverse.device
    hit = inverse > 0
    depth = torch.where(hit, 1 / inverse.clamp(min=1e-9), 0.0)
    index = torch.arange(pixels, device=device)
    x, y = (index % width).float() + 0.5, (index // width).float() + 0.5

    def per_pixel(table: Tensor, rows: Tensor) -> Tensor:
        """Rows of a table (R, n) for each pixel, (n, F, pixels)."""
        # Pixels of sky read row 0, which need not be there.
        columns = functional.pad(table.float().T, (0, 1))
        return columns.index_select(1, rows).view(-1, views, pixels)

    pair = nearest.flatten()
    row = per_pixel(scene.primitives.surface, functional.pad(frames.primitive.int(), (0, 1))[pair])
    geometry = per_pixel(torch.cat([frames.directions.flatten(1), frames.origin], dim=-1), pair)
    local = [
        geometry[9 + axis]
        + depth * (geometry[3 * axis] * x + geometry[3 * axis + 1] * y + geometry[3 * axis + 2])
        for axis in range(3)
    ]
    for frame, hits in things:
        row[:, frame, hits.pixel] = hits.surface.T
        local[0][frame, hits.pixel], local[1][frame, hits.pixel] = hits.uv
    rays = frames.rays.float()[..., None]
    ray = [rays[:, axis, 0] * x + rays[:, axis, 1] * y + rays[:, axis, 2] for axis in range(3)]
    normal = _normals(row, local)
    first, second = _surface_coordinates(row, local)

    stretch = torch.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
    facing = -(normal[0] * ray[0] + normal[1] * ray[1] + normal[2] * ray[2]) / stretch
    # The footprint of a pixel is stretched by 1 / facing along one direction; blurring by the geometric
    # mean of both keeps floors from washing out far away.
    footprint = depth / frames.focal.float()[:, None] * row[surfaces.TEXELS_PER_METRE]
    level = torch.log2(footprint.clamp(min=1e-6)) - 0.5 * torch.log2(facing.clamp(min=0.05))
    matrix, offset = row[surfaces.UV_MATRIX], row[surfaces.UV_OFFSET]
    u = matrix[0] * first + matrix[1] * second + offset[0]
    v = matrix[2] * first + matrix[3] * second + offset[1]
    weights = pool.sample(row[surfaces.ATLAS].flatten(1), u.flatten(), v.flatten(), level.flatten())
    weights = weights.view(3, 1, views, pixels)
    albedo = (weights * row[surfaces.PALETTE].view(3, 3, views, pixels)).sum(0)

    position = frames.camera_to_world[:, :3, 3].float()
    point = [position[:, axis, None] + depth * ray[axis] for axis in range(3)]
    lit = _lit(frames, point, normal, hit)
    light = _light(frames.lighting, point, normal, lit) * _edge_shade(row, first, second)
    colour = albedo * torch.lerp(light, torch.ones_like(light), row[surfaces.GLOW])
    sky = _sky(frames.lighting, ray[2] / stretch, ray[0] / stretch)
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


def _lit(frames: _Frames, point: list[Tensor], normal: list[Tensor], hit: Tensor) -> Tensor | None:
    """How much of each lamp's light passes by the things, (lamps, F, pixels); None where there are none."""
    if not any(frames.meshes):
        return None
    lamps = frames.lighting.position
    lit = torch.ones(lamps.shape[1], *hit.shape, device=hit.device)
    raised = torch.stack([at + _CLEAR * up for at, up in zip(point, normal, strict=True)], -1)
    for frame, meshes in enumerate(frames.meshes):
        if meshes is None:
            continue
        seen = hit[frame].nonzero().squeeze(1)
        for lamp in range(len(lit)):
            dark = meshes.hide(raised[frame, seen].cpu(), lamps[frame, lamp].cpu())
            lit[lamp, frame, seen[dark.to(seen.device)]] = _UMBRA
    return lit


def _light(
    lighting: Lighting, point: list[Tensor], normal: list[Tensor], lit: Tensor | None
) -> Tensor:
    """Light arriving at the surface, (3, F, pixels): Lambert's law plus a little more from above."""
    light = lighting.ambient.T[:, :, None] * (0.85 + 0.15 * normal[2])
    for lamp in range(lighting.reach.shape[1]):
        away = [lighting.position[:, lamp, axis, None] - point[axis] for axis in range(3)]
        squared = away[0] ** 2 + away[1] ** 2 + away[2] ** 2
        cosine = away[0] * normal[0] + away[1] * normal[1] + away[2] * normal[2]
        cosine = cosine.clamp(min=0) * torch.rsqrt(squared + 1e-6)
        strength = cosine / (1 + squared / lighting.reach[:, lamp, None] ** 2)
        if lit is not None:
            strength = strength * lit[lamp]
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
