"""What stands along streets: closed rows of houses, or gardens with houses here and there."""

from __future__ import annotations

import numpy as np

from mem3r_plugin.training.worlds.builder import UP, Array, Builder, stretch
from mem3r_plugin.training.worlds.furniture import GARDEN_PIECES, Piece, pieces_at
from mem3r_plugin.training.worlds.primitives import Shape
from mem3r_plugin.training.worlds.surfaces import Material

_FACADES = ("windows", "windows", "windows", "brick", "plaster")
_LAWN = 0.13
"""Height in metres of lawns, a little above pavements."""
_WOODS = 12.0
"""Metres of garden behind which there is room for tall trees."""


def row_of_houses(builder: Builder, start: Array, end: Array, deepest: float) -> None:
    """A row of houses, at most `deepest` metres deep, whose fronts follow a line, seen from its left."""
    rng = builder.rng
    along, inward, length = stretch(start, end)
    rotation = np.stack([-along, -inward, UP], axis=1)
    foot, position = np.array([*start, 0.0]), 0.0
    while length - position > 3.0:
        wide = min(float(rng.uniform(6, 14)), length - position)
        tall, deep = float(rng.uniform(5, 14)), min(float(rng.uniform(5, 8)), deepest)
        back = deep / 2 + float(rng.uniform(0.02, 0.5))
        base = foot + along * (position + wide / 2) - inward * back
        _house(builder, base, rotation, (wide, deep, tall))
        position += wide + (float(rng.uniform(1, 3)) if rng.random() < 0.15 else 0.0)


def gardens(builder: Builder, start: Array, end: Array, deepest: float) -> None:
    """Gardens that reach `deepest` metres back from a line, seen from its left.

    Each has a hedge, a fence or neither, trees and bushes, and often a house; tall trees end the view.
    """
    rng = builder.rng
    along, inward, length = stretch(start, end)
    rotation = np.stack([-along, -inward, UP], axis=1)
    foot, position = np.array([*start, 0.0]), 0.0
    plants = pieces_at(builder, "garden", GARDEN_PIECES)
    lawn = builder.material("foliage", "carpet", "pebbles", "foliage", bright=(0.2, 0.6))
    middle = foot + along * length / 2 - inward * deepest / 2 + UP * _LAWN / 2
    builder.box(middle, (length, deepest, _LAWN), rotation, lawn)
    while length - position > 4.0:
        wide = min(float(rng.uniform(7, 22)), length - position)
        base = foot + along * (position + wide / 2)
        _border(builder, base, rotation, wide)
        if rng.random() < 0.6 and wide > 6 and deepest > 7:
            depth = float(rng.uniform(5, min(9, deepest - 1.5)))
            back = depth / 2 + float(rng.uniform(0.5, deepest - depth))
            size = (wide * float(rng.uniform(0.4, 0.9)), depth, float(rng.uniform(3, 9)))
            _house(builder, base - inward * back, rotation, size)
        _planted(builder, base, rotation, (wide, deepest), plants)
        position += wide
    if deepest > _WOODS:
        _woods(builder, foot - inward * deepest, along, length)


def _border(builder: Builder, base: Array, rotation: Array, wide: float) -> None:
    """A hedge, a fence or a low wall around the middle `base` of a garden's front, or nothing."""
    rng = builder.rng
    if rng.random() < 0.4:
        return
    material = builder.material("foliage", "foliage", "planks", "brick", bright=(0.2, 0.7))
    thick, tall = float(rng.uniform(0.15, 0.8)), float(rng.uniform(0.5, 2.2))
    middle = base + rotation[:, 1] * thick / 2 + UP * tall / 2
    builder.box(middle, (0.9 * wide, thick, tall), rotation, material, grounded=0.3)


def _planted(
    builder: Builder,
    base: Array,
    rotation: Array,
    size: tuple[float, float],
    plants: dict[str, Piece],
) -> None:
    """Trees, bushes and the like anywhere in a garden of `size` = (width, depth) behind `base`."""
    rng = builder.rng
    for _ in range(int(rng.poisson(size[0] / 4))):
        piece = plants[str(rng.choice(list(plants)))]
        x, y = rng.uniform(-0.5, 0.5) * size[0], rng.uniform(0.05, 0.8) * size[1]
        foot = base + rotation[:, 0] * x + rotation[:, 1] * y
        piece.build(builder, foot, float(rng.uniform(0, 2 * np.pi)), piece.draw_size(rng))


def _woods(builder: Builder, foot: Array, along: Array, length: float) -> None:
    """Round crowns side by side along a line, with gaps that show the sky."""
    rng = builder.rng
    position = 0.0
    while position < length:
        half = float(rng.uniform(3, 8))
        leaves = builder.material("foliage", bright=(0.15, 0.5))
        middle = foot + along * (position + half) + UP * 0.6 * half
        builder.ball(middle, (half, half, half * float(rng.uniform(0.8, 1.3))), leaves)
        position += 1.6 * half + float(rng.exponential(6.0))


def _house(
    builder: Builder, base: Array, rotation: Array, size: tuple[float, float, float]
) -> None:
    rng = builder.rng
    wide, deep, tall = size
    right, backward = rotation[:, 0], rotation[:, 1]
    front = builder.material(*_FACADES)
    wall = builder.material("plaster", "brick", "plain")
    roof = builder.material("tiles", "brick", "stripes", bright=(0.2, 0.6))
    builder.box(base + UP * tall / 2, size, rotation, wall, top=roof, front=front, grounded=0.3)
    builder.obstacle(base + UP * tall / 2, size, float(np.arctan2(right[1], right[0])))
    face = base - backward * deep / 2
    trim = builder.material("plain", "marble")
    builder.box(face + UP * (tall - 0.2) - backward * 0.1, (wide, 0.3, 0.4), rotation, trim)
    for place in np.arange(1.2, wide - 1.2, rng.uniform(2.5, 4.0)):
        door = rng.random() < 0.4
        breadth, high = (1.1, 2.3) if door else (float(rng.uniform(1.2, 2.2)), 1.6)
        panel = builder.material("door" if door else "poster", fill=(breadth, high))
        bottom = 0.1 if door else 0.8
        middle = face + right * (place - wide / 2) + UP * (bottom + high / 2) - backward * 0.04
        builder.box(middle, (breadth, 0.12, high), rotation, trim, front=panel)
    if rng.random() < 0.45:
        _gable_roof(
            builder,
            base + UP * tall,
            rotation,
            (wide, deep, float(rng.uniform(1.5, 3.5))),
            wall,
            roof,
        )


def _gable_roof(
    builder: Builder,
    base: Array,
    rotation: Array,
    size: tuple[float, float, float],
    wall: Material,
    roof: Material,
) -> None:
    """Two slopes that meet in a ridge along the front, closed by triangles."""
    (right, backward, _), (wide, deep, tall) = rotation.T, size
    slope = float(np.hypot(deep / 2, tall))
    for side in (-1, 1):
        uphill = (UP * tall - side * backward * deep / 2) / slope
        middle = base + side * backward * deep / 4 + UP * tall / 2
        builder.flat(middle, -side * right, uphill, (wide, slope), roof)
        gable = base + side * right * wide / 2 + UP * tall / 2
        builder.flat(gable, side * backward, UP, (deep, tall), wall, shape=Shape.TRIANGLE)
