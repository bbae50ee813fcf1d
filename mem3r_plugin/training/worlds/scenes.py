"""Whole worlds: furnished rooms, corridors, streets, and loops that lead back to their start.

World axes: x and y along the floor, z up, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds.builder import UP, Array, Builder, Obstacle, stretch
from mem3r_plugin.training.worlds.furniture import (
    CAR,
    CORRIDOR_PIECES,
    FREE_PIECES,
    FREE_SETS,
    STREET_PIECES,
    WALL_PIECES,
    WALL_SETS,
    Piece,
    pieces_at,
)
from mem3r_plugin.training.worlds.houses import gardens, row_of_houses
from mem3r_plugin.training.worlds.meshes import Meshes
from mem3r_plugin.training.worlds.primitives import Primitives
from mem3r_plugin.training.worlds.render import Lighting, RenderedViews, render
from mem3r_plugin.training.worlds.roads import markings
from mem3r_plugin.training.worlds.surfaces import Material
from mem3r_plugin.training.worlds.textures import TexturePool, texture_pool
from mem3r_plugin.training.worlds.things import load_things

Kind = Literal["room", "corridor", "street", "loop"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SHARES = (0.5, 0.15, 0.2, 0.15)
"""How often each kind is drawn."""
_WALLS = ("plain", "plaster", "brick", "stripes", "tiles")
_LIVED_IN = 2.0
"""How much more often a place is sought for something where there are things: most of them are small."""
_FLOORS = ("planks", "tiles", "checker", "carpet", "wood", "marble", "pebbles")


@dataclass(frozen=True)
class WorldConfig:
    """What a world is made of."""

    kind: Kind | None = None
    """`room`, `corridor`, `street` or `loop`; None draws one from the seed."""
    length: float = 30.0
    """Metres of way through corridors and streets, and once around loops."""
    clutter: float = 1.0
    """How much furniture, 0 for none; 1 is lived-in."""
    greenery: float = 0.0
    """Share of streets that lead between gardens and trees, with houses here and there, 0 to 1."""
    sobriety: float = 0.0
    """Share of worlds with mostly plain surfaces in muted colours, as most real ones have, 0 to 1."""
    textures: Path | None = None
    """A folder of pictures to use as textures beside the procedural ones."""
    photo_share: float = 0.5
    """How often a picture of `textures` takes the place of a procedural texture."""
    things: Path | None = None
    """A folder of models, such as `mem3r things` makes, to set up beside what is built of boxes."""
    thing_share: float = 0.7
    """Share of worlds with such things in them, 0 to 1."""


@dataclass(frozen=True)
class Route:
    """The way through a corridor, a street or a loop."""

    points: Array
    """Corners of its middle line, (N, 2)."""
    closed: bool
    """Whether the last corner leads back to the first."""
    width: float
    """Metres between the walls or facades."""
    free: float
    """Metres to either side of the middle that are kept free of things."""


@dataclass(frozen=True)
class World:
    """Shapes, lights, and where a camera may go."""

    kind: Kind
    """What was built."""
    primitives: Primitives
    """Everything there is to see."""
    lighting: Lighting
    """Lamps and sky."""
    pool: TexturePool
    """The textures in use."""
    meshes: Meshes | None
    """The things of real shape, if there are any."""
    floor: tuple[Array, Array]
    """Least and greatest x, y, z inside the walls."""
    obstacles: list[Obstacle] = field(default_factory=list)
    """What cameras keep clear of."""
    route: Route | None = None
    """The way through; None in rooms."""

    def render(
        self, camera_to_world: Tensor, intrinsics: Intrinsics, supersample: int = 1
    ) -> RenderedViews:
        """What cameras see.

        Args:
            camera_to_world: poses in the world's own axes (z up), (T, 4, 4).
            intrinsics: the camera of all views.
            supersample: side of the grid of samples averaged for each pixel's colour; depth always
                belongs to the pixel's centre.
        """
        poses = camera_to_world.to(self.primitives.centre)
        images, depth = render(
            [self.primitives],
            [self.lighting],
            self.pool,
            poses[None],
            [intrinsics],
            supersample,
            [self.meshes],
        )
        return RenderedViews(images[0], depth[0], poses, intrinsics)


def choose_kind(seed: int) -> Kind:
    """The kind of world of a seed: every second one is a room."""
    rng = np.random.default_rng([seed, 5])
    return KINDS[int(rng.choice(len(KINDS), p=_SHARES))]


def generate_world(
    config: WorldConfig | Kind, seed: int, device: torch.device | str = "cpu"
) -> World:
    """Builds the world of a seed; the same arguments give the same world on every machine.

    Raises:
        ConfigError: the kind of world is unknown.
        SourceError: the folder of textures or of things cannot be read.
    """
    if isinstance(config, str):
        config = WorldConfig(kind=config)
    rng = np.random.default_rng([seed, 1])
    kind = config.kind or choose_kind(seed)
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of world {kind!r}; choose one of {', '.join(KINDS)}")
    things = load_things(config.things) if config.things else None
    pool = texture_pool(config.textures, str(device), things.skins if things else ())
    # Nothing is drawn where none is wanted: the held-back worlds stay what they are.
    sober = config.sobriety > 0 and rng.random() < config.sobriety
    if things and np.random.default_rng([seed, 7]).random() >= config.thing_share:
        things = None
    builder = Builder(rng, pool, config.photo_share, sober, things)
    if kind == "room":
        return _room(builder, config, device)
    outdoors = kind == "street" or (kind == "loop" and rng.random() < 0.4)
    closed = kind == "loop"
    if outdoors:
        return _street(builder, config, device, closed)
    return _corridor(builder, config, device, closed)


# -- rooms ---------------------------------------------------------------------------------------


def _room(builder: Builder, config: WorldConfig, device: torch.device | str) -> World:
    rng = builder.rng
    width, depth, height = rng.uniform((3, 3, 2.4), (8, 8, 3.2))
    corners = np.array([[0, 0], [width, 0], [width, depth], [0, depth]], dtype=float)
    _floor_and_ceiling(builder, np.zeros(2), corners[2], height, shade=0.45)
    wall = builder.material(*_WALLS)
    for index in range(4):
        material = wall if rng.random() < 0.7 else builder.material(*_WALLS)
        _wall(builder, corners[index], corners[(index + 1) % 4], height, material)
    _furnish_room(builder, width, depth, config.clutter)
    lighting = _lamps(builder, np.array([width, depth, height]), device)
    return World(
        "room",
        builder.primitives(device),
        lighting,
        builder.pool,
        builder.meshes(),
        (np.zeros(3), np.array([width, depth, height])),
        builder.obstacles,
    )


def _floor_and_ceiling(
    builder: Builder, low: Array, high: Array, height: float, shade: float = 0.0
) -> None:
    (width, depth), middle = high - low, np.array([*(low + high) / 2, 0.0])
    x, y, _ = np.eye(3)
    edges = (shade, shade, shade, shade)
    builder.flat(middle, x, y, (width, depth), builder.material(*_FLOORS), edges)
    ceiling = builder.material("plain", "plaster", "tiles", bright=(0.6, 1.0))
    builder.flat(middle + UP * height, x, -y, (width, depth), ceiling, edges)


def _wall(builder: Builder, start: Array, end: Array, height: float, material: Material) -> None:
    """A wall from `start` to `end`, seen from the left of that direction, with doors and pictures."""
    rng = builder.rng
    along, inward, length = stretch(start, end)
    axes = np.stack([-along, -inward, UP], axis=1)
    foot = np.array([*start, 0.0])
    middle = foot + along * length / 2
    builder.flat(
        middle + UP * height / 2, -along, UP, (length, height), material, (0.35, 0.35, 0.4, 0.35)
    )
    if rng.random() < 0.6:
        skirting = builder.material("plain", "wood")
        builder.box(middle + inward * 0.01 + UP * 0.05, (length, 0.02, 0.1), axes, skirting)
    position = rng.uniform(0.2, 1.2)
    while True:
        choice = rng.random()
        if choice < 0.25:
            wide, tall, bottom = rng.uniform(0.8, 1.0), rng.uniform(1.95, 2.15), 0.0
            panel = builder.material("door", fill=(wide, tall))
        elif choice < 0.4:
            wide, tall, bottom = rng.uniform(0.8, 1.8), rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.0)
            panel = builder.material("windows", fill=(wide, tall), bright=(0.7, 1.0), glow=0.6)
        else:
            wide, tall, bottom = rng.uniform(0.3, 1.2), rng.uniform(0.3, 0.8), rng.uniform(1.1, 1.5)
            panel = builder.material("poster", fill=(wide, tall))
        if position + wide > length - 0.2:
            return
        place = foot + along * (position + wide / 2) + inward * 0.015 + UP * (bottom + tall / 2)
        border = builder.material("plain", "wood")
        builder.box(place, (wide, 0.03, tall), axes, border, front=panel)
        position += wide + rng.exponential(0.8) + 0.2


def _furnish_room(builder: Builder, width: float, depth: float, clutter: float) -> None:
    rng = builder.rng
    clear = rng.uniform(0.2, 0.8, 2) * (width, depth)  # where a camera always finds room
    taken = [(clear, np.full(2, 0.7))]

    def place(piece: Piece, against_wall: bool) -> None:
        size = piece.draw_size(rng)
        side = int(rng.integers(4))
        yaw = side * np.pi / 2 if against_wall else rng.uniform(0, 2 * np.pi)
        reach = np.array(size[:2]) / 2 if against_wall else np.full(2, np.hypot(*size[:2]) / 2)
        if side % 2 and against_wall:
            reach = reach[::-1]
        low, high = reach + 0.04, np.array([width, depth]) - reach - 0.04
        if (low > high).any():
            return
        centre = rng.uniform(low, high)
        if against_wall:  # its back, local +y, to the wall
            axis = 1 - side % 2
            centre[axis] = high[axis] if side in (0, 3) else low[axis]
        if any((np.abs(centre - other) < reach + extent + 0.05).all() for other, extent in taken):
            return
        taken.append((centre, reach))
        base = np.array([*centre, 0.0])
        piece.build(builder, base, float(yaw), size)
        builder.obstacle(
            base + UP * 0.5 * (size[2] + 0.3), (size[0], size[1], size[2] + 0.3), float(yaw)
        )

    wall = pieces_at(builder, "wall", WALL_PIECES)
    free = pieces_at(builder, "free", FREE_PIECES)
    if builder.sober:
        wall, free = wall | WALL_SETS, free | FREE_SETS
        for sets, against_wall in ((WALL_SETS, True), (FREE_SETS, False)):
            for piece in sets.values():  # first, while there is room for them
                place(piece, against_wall)
    if builder.things is not None:
        clutter *= _LIVED_IN
    for pieces, amount, against_wall in ((wall, 8, True), (free, 10, False)):
        for _ in range(int(rng.poisson(clutter * amount))):
            place(pieces[str(rng.choice(list(pieces)))], against_wall)


def _lamps(builder: Builder, size: Array, device: torch.device | str) -> Lighting:
    """Two lamps in a room."""
    rng = builder.rng
    places = rng.uniform((0.2, 0.2, 0.6), (0.8, 0.8, 0.95), (2, 3)) * size
    warm = np.stack([np.ones(2), rng.uniform(0.8, 1.0, 2), rng.uniform(0.6, 1.05, 2)], -1)
    colour = warm * rng.uniform(0.5, 1.2, (2, 1))
    ambient = rng.uniform(0.4, 0.65) * rng.uniform(0.85, 1.0, 3)
    return _lighting(places, colour, rng.uniform(2.5, 6.0, 2), ambient, np.zeros((2, 3)), device)


def _lighting(
    position: Array,
    colour: Array,
    reach: Array,
    ambient: Array,
    sky: Array,
    device: torch.device | str,
) -> Lighting:
    values = (position, colour, reach, ambient, sky)
    return Lighting(*(torch.tensor(value, dtype=torch.float32, device=device) for value in values))


# -- ways --------------------------------------------------------------------------------------


def _way(rng: np.random.Generator, length: float, closed: bool, shortest: float) -> Array:
    """Corners (N, 2) of a way: a rectangle run around anticlockwise, or a staircase of right turns."""
    if closed:
        share = rng.uniform(0.35, 0.65)
        long_side = max(share * length / 2, shortest)
        short_side = max((1 - share) * length / 2, shortest)
        return np.array(
            [[0, 0], [long_side, 0], [long_side, short_side], [0, short_side]], dtype=float
        )
    corners, left, forward = [np.zeros(2)], length, True
    while left > 0:
        run = min(left, rng.uniform(1.0, 4.0) * shortest)
        run = left if left - run < shortest else run
        step = np.array([run, 0.0]) if forward else np.array([0.0, run * rng.choice([-1, 1])])
        corners.append(corners[-1] + step)
        left, forward = left - run, not forward
    return np.stack(corners)


def _legs(points: Array, closed: bool) -> list[tuple[Array, Array]]:
    """Where each straight part of a way begins and ends."""
    ends = np.roll(points, -1, axis=0) if closed else points[1:]
    return list(zip(points, ends, strict=False))


def offset_way(points: Array, distance: float, closed: bool) -> Array:
    """The line (N, 2) that runs `distance` to the left of a way, mitred at its corners."""
    ahead = np.roll(points, -1, axis=0) - points
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    behind = np.roll(ahead, 1, axis=0)
    if not closed:
        ahead[-1], behind[0] = behind[-1], ahead[0]
    left = np.stack([-ahead[:, 1], ahead[:, 0]], -1)
    left_behind = np.stack([-behind[:, 1], behind[:, 0]], -1)
    return points + distance * (left + left_behind) / (
        1 + (left * left_behind).sum(1, keepdims=True)
    )


def _sides(points: Array, width: float, closed: bool) -> list[tuple[Array, Array]]:
    """Stretches of wall on both sides of a way, and across its ends, each with the way to its left."""
    right = offset_way(points, -width / 2, closed)
    left = offset_way(points, width / 2, closed)[::-1]
    if closed:
        lines = [(right, np.roll(right, -1, axis=0)), (left, np.roll(left, -1, axis=0))]
        return [pair for first, second in lines for pair in zip(first, second, strict=True)]
    outline = np.concatenate([right, left])
    return list(zip(outline, np.roll(outline, -1, axis=0), strict=True))


def _corridor(
    builder: Builder, config: WorldConfig, device: torch.device | str, closed: bool
) -> World:
    rng = builder.rng
    width, height = float(rng.uniform(1.7, 3.6)), float(rng.uniform(2.3, 3.2))
    points = _way(rng, config.length, closed, shortest=2.5 * width if closed else 4 * width)
    low, high = points.min(0) - width, points.max(0) + width
    _floor_and_ceiling(builder, low, high, height)
    material = builder.material(*_WALLS)
    pieces = pieces_at(builder, "corridor", CORRIDOR_PIECES)
    furnished = width > 2.3 and config.clutter > 0
    free = width / 2 - (0.55 if furnished else 0.1)
    for start, end in _sides(points, width, closed):
        if rng.random() < 0.3:
            material = builder.material(*_WALLS)
        _wall(builder, start, end, height, material)
        if furnished:
            _line_up(builder, start, end, pieces, 0.0, 4.0 / config.clutter, margin=width)
    _ceiling_lamps(builder, points, height, closed)
    towards = np.array([[0.5, 0.3, 0.8], [-0.7, -0.4, 0.6]]) * 1e4
    colour = rng.uniform(0.3, 0.7, (2, 1)) * rng.uniform(0.85, 1.0, (2, 3))
    ambient = rng.uniform(0.55, 0.8) * rng.uniform(0.9, 1.0, 3)
    lighting = _lighting(towards, colour, np.full(2, 1e9), ambient, np.zeros((2, 3)), device)
    floor = (
        np.array([*(points.min(0) - width / 2), 0.0]),
        np.array([*(points.max(0) + width / 2), height]),
    )
    route = Route(points, closed, width, free)
    kind: Kind = "loop" if closed else "corridor"
    return World(
        kind,
        builder.primitives(device),
        lighting,
        builder.pool,
        builder.meshes(),
        floor,
        builder.obstacles,
        route,
    )


def _line_up(
    builder: Builder,
    start: Array,
    end: Array,
    pieces: dict[str, Piece],
    away: float,
    gap: float,
    margin: float,
) -> None:
    """Puts pieces along a wall, their middles or backs `away` from it, `gap` metres apart on average."""
    rng = builder.rng
    along, inward, length = stretch(start, end)
    yaw = float(np.arctan2(-along[1], -along[0]))
    position = margin + rng.exponential(gap)
    while True:
        piece = pieces[str(rng.choice(list(pieces)))]
        size = piece.draw_size(rng)
        if position + size[0] > length - margin:
            return
        base = np.array([*start, 0.0]) + along * (position + size[0] / 2)
        base = base + inward * (away if away else size[1] / 2 + 0.03)
        piece.build(builder, base, yaw, size)
        builder.obstacle(base + UP * 0.5 * size[2], size, yaw)
        position += size[0] + 0.1 + rng.exponential(gap)


def _ceiling_lamps(builder: Builder, points: Array, height: float, closed: bool) -> None:
    lamp = builder.material("plain", bright=(0.95, 1.0), glow=1.0)
    for start, end in _legs(points, closed):
        along, _, length = stretch(start, end)
        rotation = np.stack([along, np.cross(UP, along), UP], axis=1)
        for position in np.arange(1.5, length, 3.0):
            place = np.array([*start, height - 0.03]) + along * position
            builder.box(place, (1.1, 0.25, 0.06), rotation, lamp)


# -- streets -----------------------------------------------------------------------------------


def _street(
    builder: Builder, config: WorldConfig, device: torch.device | str, closed: bool
) -> World:
    rng = builder.rng
    road, pavement = float(rng.uniform(6.0, 9.0)), float(rng.uniform(2.0, 3.5))
    width = road + 2 * pavement
    # The way goes on behind the last place a camera reaches, so that there is always something ahead.
    points = _way(rng, config.length + (0 if closed else 50), closed, shortest=3 * width)
    x, y, _ = np.eye(3)
    low, high = points.min(0) - 60, points.max(0) + 60
    middle = np.array([*(low + high) / 2, 0.0])
    ground = builder.material("asphalt", "pebbles", "asphalt", bright=(0.35, 0.7))
    builder.flat(middle, x, y, tuple(high - low), ground)
    # Houses inside a loop must not reach through to its other side.
    deepest = 0.45 * float((np.ptp(points, axis=0) - width).min()) if closed else 8.0
    pavement_pieces = pieces_at(builder, "pavement", STREET_PIECES)
    cars = pieces_at(builder, "kerb", {"car": CAR})
    green = config.greenery > 0 and rng.random() < config.greenery
    for start, end in _sides(points, width, closed):
        _pavement(builder, start, end, pavement)
        if green:
            gardens(builder, start, end, deepest if closed else 30.0)
        else:
            row_of_houses(builder, start, end, deepest)
        if config.clutter > 0:
            _line_up(
                builder, start, end, pavement_pieces, pavement - 0.7, 5 / config.clutter, width
            )
            _line_up(builder, start, end, cars, pavement + 1.2, 8 / config.clutter, width)
    if builder.sober:
        for start, end in _legs(points, closed):
            markings(builder, start, end, road)
    route = Route(points, closed, width, road / 2 - 2.4)
    floor = (np.array([*points.min(0), 0.0]), np.array([*points.max(0), 15.0]))
    kind: Kind = "loop" if closed else "street"
    return World(
        kind,
        builder.primitives(device),
        _daylight(rng, device),
        builder.pool,
        builder.meshes(),
        floor,
        builder.obstacles,
        route,
    )


def _pavement(builder: Builder, start: Array, end: Array, width: float) -> None:
    along, inward, length = stretch(start, end)
    rotation = np.stack([along, inward, UP], axis=1)
    middle = np.array([*start, 0.06]) + along * length / 2 + inward * width / 2
    material = builder.material("tiles", "pebbles", "asphalt", "brick")
    builder.box(middle, (length, width, 0.12), rotation, material)


def _daylight(rng: np.random.Generator, device: torch.device | str) -> Lighting:
    """The sun, and a weaker light from the other side."""
    heading, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2)
    sun = np.array([np.cos(heading), np.sin(heading), height])
    towards = np.stack([sun, [-sun[0], -sun[1], 0.3]]) * 1e5
    colour = np.array([[1.0, 0.95, 0.85], [0.5, 0.55, 0.65]]) * rng.uniform(0.6, 1.1, (2, 1))
    ambient = np.array([0.9, 0.95, 1.0]) * rng.uniform(0.5, 0.75)
    zenith = np.array([0.3, 0.5, 0.85]) * rng.uniform(0.6, 1.1)
    horizon = np.array([0.85, 0.9, 0.95]) * rng.uniform(0.7, 1.05)
    if rng.random() < 0.35:  # overcast
        zenith = horizon * 0.85
    sky = np.clip(np.stack([horizon, zenith]), 0, 1)
    return _lighting(towards, colour, np.full(2, 1e9), ambient, sky, device)
