"""Things that stand in rooms and streets, each built at a place on the floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mem3r_plugin.training.worlds.builder import UP, Array, Builder, turn
from mem3r_plugin.training.worlds.things import Place, Thing

Size = tuple[float, float, float]
_FABRIC = ("weave", "plain", "stripes", "carpet")
_SOLID = ("wood", "plain", "marble", "planks")


@dataclass(frozen=True)
class Piece:
    """A kind of furniture: how large it may be, and how it is built."""

    smallest: Size
    """Least width, depth and height in metres."""
    largest: Size
    """Greatest width, depth and height in metres."""
    build: Callable[[Builder, Array, float, Size], None]
    """Builds one of a size at a place on the floor (3,), turned by a yaw; its front faces local -y."""

    def draw_size(self, rng: np.random.Generator) -> Size:
        """A random size."""
        width, depth, height = rng.uniform(self.smallest, self.largest)
        return float(width), float(depth), float(height)


def _place(base: Array, yaw: float, x: float, y: float, z: float) -> Array:
    return base + turn(yaw) @ np.array([x, y, z])


def _table(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, depth, height = size
    rotation, material = turn(yaw), builder.material(*_SOLID)
    builder.box(_place(base, yaw, 0, 0, height - 0.02), (width, depth, 0.04), rotation, material)
    leg = builder.rng.uniform(0.03, 0.07)
    for x in (-1, 1):
        for y in (-1, 1):
            foot = _place(
                base, yaw, x * (width / 2 - leg), y * (depth / 2 - leg), height / 2 - 0.02
            )
            builder.box(foot, (leg, leg, height - 0.04), rotation, material, grounded=0.4)
    _strew(builder, _place(base, yaw, 0, 0, height), yaw, (width, depth), (1, 4))


def _strew(
    builder: Builder, top: Array, yaw: float, size: tuple[float, float], amount: tuple[int, int]
) -> None:
    """Small things, from least to most of `amount`, on a surface of `size` = (width, depth) around `top`."""
    for _ in range(int(builder.rng.integers(amount[0], amount[1] + 1))):
        x, y = builder.rng.uniform(-0.35, 0.35, 2) * size
        _trinket(builder, _place(top, yaw, x, y, 0))


def _trinket(builder: Builder, base: Array) -> None:
    """A small thing to lie on furniture."""
    rng = builder.rng
    things = builder.things.at["on top"] if builder.things else []
    if things and rng.random() < _BOUGHT:
        thing = things[int(rng.integers(len(things)))]
        builder.thing(thing, base, rng.uniform(0, 2 * np.pi), _sized(thing).draw_size(rng))
        return
    choice, small = rng.random(), rng.uniform(0.05, 0.13)
    if choice < 0.4:
        size = tuple(rng.uniform(0.06, 0.3, 3) * (1, 1, 0.8))
        material = builder.material("poster", "plain", "stripes", "wood")
        builder.box(
            base + UP * size[2] / 2, size, turn(rng.uniform(0, 6.3)), material, grounded=0.3
        )
    elif choice < 0.8:
        material = builder.material("plain", "stripes", "marble", "poster")
        builder.cylinder(base, small * 0.6, rng.uniform(0.08, 0.3), material)
    else:
        builder.ball(
            base + UP * small, (small,) * 3, builder.material("plain", "checker", "stripes")
        )


def _chair(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, depth, height = size
    rotation, seat = turn(yaw), 0.45
    material, fabric = builder.material(*_SOLID), builder.material(*_FABRIC)
    builder.box(_place(base, yaw, 0, 0, seat), (width, depth, 0.06), rotation, fabric)
    back = _place(base, yaw, 0, depth / 2 - 0.02, (seat + height) / 2)
    builder.box(back, (width, 0.04, height - seat), rotation, fabric)
    for x in (-1, 1):
        for y in (-1, 1):
            foot = _place(
                base, yaw, x * (width / 2 - 0.03), y * (depth / 2 - 0.03), (seat - 0.03) / 2
            )
            builder.box(foot, (0.04, 0.04, seat - 0.03), rotation, material, grounded=0.4)


def _cabinet(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, _, height = size
    front = builder.material("door", "wood", "stripes", "tiles", fill=(width / 2, height))
    middle = _place(base, yaw, 0, 0, height / 2)
    builder.box(middle, size, turn(yaw), builder.material(*_SOLID), front=front, grounded=0.5)
    if height < 1.4:
        _trinket(builder, _place(base, yaw, builder.rng.uniform(-0.3, 0.3) * width, 0, height))


def _bookcase(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, depth, height = size
    rotation, material = turn(yaw), builder.material(*_SOLID)
    books = builder.material("books", fill=(width, height))
    middle = _place(base, yaw, 0, 0.03, height / 2)
    builder.box(
        middle, (width, depth - 0.06, height), rotation, material, front=books, grounded=0.5
    )
    for x in (-1, 1):
        side = _place(base, yaw, x * (width / 2 - 0.015), 0, height / 2)
        builder.box(side, (0.03, depth, height), rotation, material)
    for shelf in range(5):
        board = _place(base, yaw, 0, 0, 0.015 + shelf * (height - 0.03) / 4)
        builder.box(board, (width, depth, 0.03), rotation, material)


def _sofa(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, depth, height = size
    rotation, fabric = turn(yaw), builder.material(*_FABRIC)
    seat = 0.42
    builder.box(
        _place(base, yaw, 0, 0, seat / 2), (width, depth, seat), rotation, fabric, grounded=0.5
    )
    back = _place(base, yaw, 0, depth / 2 - 0.1, (seat + height) / 2)
    builder.box(back, (width, 0.2, height - seat), rotation, fabric)
    for x in (-1, 1):
        arm = _place(base, yaw, x * (width / 2 - 0.09), 0, 0.31)
        builder.box(arm, (0.18, depth, 0.62), rotation, fabric, grounded=0.5)
    cushion = builder.material(*_FABRIC)
    for x in builder.rng.uniform(-0.35, 0.35, 2) * width:
        tilted = rotation @ np.array([[1, 0, 0], [0, 0.94, 0.34], [0, -0.34, 0.94]])
        builder.box(_place(base, yaw, x, depth / 2 - 0.3, 0.62), (0.4, 0.12, 0.4), tilted, cushion)


def _bed(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, depth, height = size
    rotation = turn(yaw)
    frame, cover = builder.material(*_SOLID), builder.material(*_FABRIC)
    builder.box(_place(base, yaw, 0, 0, 0.16), (width, depth, 0.32), rotation, frame, grounded=0.5)
    builder.box(_place(base, yaw, 0, 0, 0.42), (width - 0.06, depth - 0.06, 0.2), rotation, cover)
    board = _place(base, yaw, 0, depth / 2 - 0.03, height / 2)
    builder.box(board, (width, 0.06, height), rotation, frame)
    pillow = builder.material("plain", "weave")
    for x in (-0.25, 0.25):
        middle = _place(base, yaw, x * width, depth / 2 - 0.35, 0.54)
        builder.ball(middle, (0.2 * width, 0.2, 0.12), pillow)


def _boxes(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    """A stack of cartons, each turned a little."""
    width, depth, height = size
    bottom, scale = 0.0, 1.0
    while bottom < height - 0.1:
        tall = min(builder.rng.uniform(0.2, 0.5), height - bottom)
        material = builder.material("plain", "poster", "wood", "stripes", "brick")
        rotation = turn(yaw + builder.rng.normal(0, 0.15))
        middle = _place(base, yaw, 0, 0, bottom + tall / 2)
        carton = (0.8 * width * scale, 0.8 * depth * scale, tall)
        builder.box(middle, carton, rotation, material, grounded=0.5 if bottom == 0 else 0.2)
        bottom, scale = bottom + tall, scale * builder.rng.uniform(0.75, 1.0)


def _bin(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, _, height = size
    builder.cylinder(
        base, width / 2, height, builder.material("plain", "stripes", "weave", "marble")
    )


def _plant(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, _, height = size
    pot = 0.3 * height
    builder.cylinder(
        base, 0.25 * width, pot, builder.material("plain", "stripes", "marble", "brick")
    )
    leaves = builder.material("foliage", bright=(0.2, 0.6))
    for _ in range(int(builder.rng.integers(2, 5))):
        spread = builder.rng.uniform(-0.15, 0.15, 2) * width
        half = builder.rng.uniform(0.2, 0.34) * width
        lowest = pot + 0.6 * half
        up = builder.rng.uniform(lowest, max(lowest, height - half))
        builder.ball(
            base + np.array([*spread, up]),
            (half, half, half * builder.rng.uniform(0.8, 1.3)),
            leaves,
        )


def _lamp(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, _, height = size
    metal = builder.material("plain")
    builder.cylinder(base, 0.4 * width, 0.03, metal)
    builder.cylinder(base, 0.02, height - 0.2, metal)
    shade = builder.material("plain", "weave", bright=(0.8, 1.0), glow=0.8)
    builder.cylinder(base + UP * (height - 0.35), width / 2, 0.3, shade)


def _column(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, _, height = size
    material = builder.material("marble", "plaster", "tiles", "brick", "stripes")
    if builder.rng.random() < 0.5:
        builder.cylinder(base, width / 2, height, material)
    else:
        builder.box(
            base + UP * height / 2, (width, width, height), turn(yaw), material, grounded=0.5
        )


def _ball(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    radius = size[0] / 2
    material = builder.material("checker", "stripes", "poster", "plain", "marble")
    builder.ball(base + UP * radius, (radius,) * 3, material)


def _tree(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, _, height = size
    bark = builder.material("wood", "pebbles", bright=(0.2, 0.45))
    builder.cylinder(base, 0.05 * width + 0.06, 0.6 * height, bark)
    leaves = builder.material("foliage", bright=(0.25, 0.6))
    for _ in range(int(builder.rng.integers(3, 6))):
        half = width * builder.rng.uniform(0.25, 0.4)
        spread = builder.rng.uniform(-0.2, 0.2, 2) * width
        up = builder.rng.uniform(0.55, 0.9) * height
        builder.ball(base + np.array([*spread, up]), (half, half, 0.9 * half), leaves)


def _bush(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, depth, height = size
    leaves = builder.material("foliage", bright=(0.15, 0.6))
    half = (width / 2, depth / 2, 0.6 * height)
    builder.ball(base + UP * 0.4 * height, half, leaves)


def _fir(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, _, height = size
    leaves = builder.material("foliage", bright=(0.1, 0.4))
    for level in (0.25, 0.5, 0.75):
        half = 0.5 * width * (1.1 - level)
        builder.ball(base + UP * level * height, (half, half, 0.3 * height), leaves)


def _car(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    length, width, height = size
    rotation = turn(yaw)
    paint = builder.material("plain", "plain", "stripes")
    glass = builder.material("marble", "plain", bright=(0.1, 0.3))
    body = _place(base, yaw, 0, 0, 0.3 * height + 0.15)
    builder.box(body, (length, width, 0.6 * height - 0.1), rotation, paint, grounded=0.6)
    cabin = _place(base, yaw, 0.05 * length, 0, 0.8 * height)
    builder.box(cabin, (0.55 * length, 0.86 * width, 0.4 * height), rotation, glass, top=paint)
    tyre = builder.material("plain", bright=(0.05, 0.12))
    for x in (-0.32, 0.32):
        for y in (-1, 1):
            wheel = _place(base, yaw, x * length, y * (width / 2 - 0.1), 0.32)
            builder.box(wheel, (0.62, 0.22, 0.62), rotation, tyre)


def _lamp_post(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    _, _, height = size
    metal = builder.material("plain", bright=(0.1, 0.4))
    builder.cylinder(base, 0.07, height, metal)
    head = _place(base, yaw, 0, -0.5, height)
    builder.box(head, (0.3, 1.2, 0.12), turn(yaw), metal)


def _bench(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    width, depth, height = size
    rotation, wood = turn(yaw), builder.material("planks", "wood")
    builder.box(_place(base, yaw, 0, 0, 0.42), (width, depth, 0.06), rotation, wood)
    builder.box(
        _place(base, yaw, 0, depth / 2 - 0.03, 0.65), (width, 0.05, height - 0.5), rotation, wood
    )
    for x in (-0.4, 0.4):
        builder.box(
            _place(base, yaw, x * width, 0, 0.2), (0.08, depth, 0.39), rotation, wood, grounded=0.4
        )


def _counter(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    """Cupboards under a worktop, and often others above it."""
    width, depth, height = size
    rotation, (top, thick) = turn(yaw), (0.9, 0.04)
    body, slab = builder.material("plain", "wood"), builder.material("plain", "marble", "wood")
    middle = _place(base, yaw, 0, 0.02, (top - thick) / 2)
    builder.box(middle, (width, depth - 0.04, top - thick), rotation, body, grounded=0.5)
    builder.box(_place(base, yaw, 0, 0, top - thick / 2), (width, depth, thick), rotation, slab)
    _strew(builder, _place(base, yaw, 0, 0, top), yaw, (width, depth), (2, 7))
    shelf = 1.4
    if height > shelf + 0.3:
        above = _place(base, yaw, 0, depth / 2 - 0.17, (shelf + height) / 2)
        builder.box(above, (width, 0.34, height - shelf), rotation, body)


def _dining_table(builder: Builder, base: Array, yaw: float, size: Size) -> None:
    """A laid table with chairs pushed under its long sides."""
    width, depth, height = size
    table = (width, depth - 0.5, 0.75)
    _table(builder, base, yaw, table)
    _strew(builder, _place(base, yaw, 0, 0, table[2]), yaw, table[:2], (2, 7))
    for x in np.arange(0.3, width - 0.25, builder.rng.uniform(0.55, 0.8)):
        for side in (-1, 1):
            if builder.rng.random() < 0.7:
                place = _place(base, yaw, x - width / 2, side * (depth / 2 - 0.22), 0)
                _chair(builder, place, yaw + (np.pi if side < 0 else 0.0), (0.42, 0.42, height))


WALL_PIECES = {
    "cabinet": Piece((0.6, 0.4, 0.7), (1.6, 0.6, 2.1), _cabinet),
    "bookcase": Piece((0.7, 0.28, 1.2), (1.6, 0.4, 2.2), _bookcase),
    "sofa": Piece((1.4, 0.8, 0.75), (2.2, 1.0, 1.0), _sofa),
    "bed": Piece((0.9, 1.9, 0.7), (1.8, 2.1, 1.2), _bed),
    "lamp": Piece((0.3, 0.3, 1.3), (0.5, 0.5, 1.8), _lamp),
    "desk": Piece((1.0, 0.6, 0.7), (1.8, 0.8, 0.8), _table),
}
"""What stands with its back to a wall."""
WALL_SETS = {"counter": Piece((1.2, 0.55, 0.9), (2.8, 0.65, 2.3), _counter)}
"""More of it in sober worlds, with much on top."""
FREE_PIECES = {
    "table": Piece((0.7, 0.6, 0.4), (1.8, 1.0, 0.78), _table),
    "chair": Piece((0.4, 0.4, 0.8), (0.5, 0.5, 1.05), _chair),
    "boxes": Piece((0.4, 0.4, 0.3), (0.8, 0.7, 1.3), _boxes),
    "bin": Piece((0.25, 0.25, 0.3), (0.5, 0.5, 0.7), _bin),
    "plant": Piece((0.4, 0.4, 0.6), (0.9, 0.9, 1.7), _plant),
    "ball": Piece((0.2, 0.2, 0.2), (0.6, 0.6, 0.6), _ball),
}
"""What stands anywhere in a room."""
FREE_SETS = {"dining table": Piece((1.1, 1.2, 0.85), (2.2, 1.5, 1.0), _dining_table)}
"""More of it in sober worlds, with much on top."""
CORRIDOR_PIECES = {
    **{name: FREE_PIECES[name] for name in ("chair", "bin", "plant", "boxes")},
    "cabinet": Piece((0.6, 0.3, 0.7), (1.4, 0.45, 1.9), _cabinet),
    "bookcase": Piece((0.7, 0.25, 1.2), (1.4, 0.35, 2.0), _bookcase),
    "column": Piece((0.25, 0.25, 2.2), (0.45, 0.45, 2.2), _column),
}
"""What stands along the walls of corridors."""
STREET_PIECES = {
    "tree": Piece((2.0, 2.0, 3.5), (4.0, 4.0, 8.0), _tree),
    "lamp post": Piece((0.3, 0.3, 4.0), (0.3, 0.3, 7.0), _lamp_post),
    "bench": Piece((1.4, 0.5, 0.8), (2.0, 0.6, 0.95), _bench),
    "bin": Piece((0.4, 0.4, 0.8), (0.7, 0.7, 1.2), _bin),
    "boxes": Piece((0.5, 0.5, 0.5), (1.0, 1.0, 1.6), _boxes),
    "plant": Piece((0.6, 0.6, 0.8), (1.2, 1.2, 1.8), _plant),
}
"""What stands on pavements."""
GARDEN_PIECES = {
    "tree": Piece((2.0, 2.0, 3.5), (6.0, 6.0, 10.0), _tree),
    "fir": Piece((1.5, 1.5, 3.0), (5.0, 5.0, 12.0), _fir),
    "bush": Piece((0.6, 0.6, 0.6), (4.0, 3.0, 2.5), _bush),
}
"""What grows in gardens."""
CAR = Piece((3.6, 1.65, 1.35), (4.9, 1.95, 1.9), _car)
"""What is parked at the kerb."""
_STRETCH = 0.15
"""Share by which each side of a thing may be longer or shorter than the catalogue says."""
_BOUGHT = 0.7
"""How often a small thing is a model rather than a box, a can or a ball, where there are models."""
_SHELVES = 0.5
"""How often what has a top, but is no table, has something on it."""


def pieces_at(builder: Builder, place: Place, built: dict[str, Piece]) -> dict[str, Piece]:
    """What may stand at a place: what is `built` of boxes and, where the world has any, things."""
    if builder.things is None:
        return built
    things = builder.things.at[place]
    return built | {f"{each.name} {index}": _sized(each) for index, each in enumerate(things)}


def _sized(thing: Thing) -> Piece:
    """A thing as a piece of about its size, with small things on it where there is room for them."""
    width, depth, height = thing.size

    def build(builder: Builder, base: Array, yaw: float, size: Size) -> None:
        builder.thing(thing, base, yaw, size)
        if thing.top is not None and min(size[:2]) > 0.3:
            table = "table" in thing.name.lower() or "desk" in thing.name.lower()
            if table or builder.rng.random() < _SHELVES:
                top = base + UP * (thing.elevation + thing.top * size[2] / height)
                _strew(builder, top, yaw, size[:2], (1, 5))

    less, more = 1 - _STRETCH, 1 + _STRETCH
    return Piece(
        (less * width, less * depth, less * height),
        (more * width, more * depth, more * height),
        build,
    )
