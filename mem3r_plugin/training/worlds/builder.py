"""Collects the shapes of a world, metre by metre. Axes: x and y along the floor, z up."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from mem3r_plugin.training.worlds.meshes import Meshes
from mem3r_plugin.training.worlds.primitives import Primitives, Shape
from mem3r_plugin.training.worlds.surfaces import Material, pack, pack_skins
from mem3r_plugin.training.worlds.textures import TexturePool
from mem3r_plugin.training.worlds.things import Thing, Things

Array = NDArray[np.float64]
Rng = np.random.Generator

Shade = tuple[float, float, float, float]

UP = np.array([0.0, 0.0, 1.0])
NO_SHADE: Shade = (0.0, 0.0, 0.0, 0.0)
_FACES = np.array(
    [
        [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
        [[0, -1, 0], [0, 0, 1], [-1, 0, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    ],
    dtype=float,
)
"""Right, up and outward direction of each face of a box, in the box's own axes: -y, y, x, -x, z, -z."""
_TILE = {
    "plain": (1.0, 3.0),
    "plaster": (1.2, 3.0),
    "marble": (0.8, 2.5),
    "brick": (0.7, 1.4),
    "tiles": (0.6, 2.0),
    "checker": (0.8, 2.5),
    "wood": (0.6, 1.6),
    "planks": (0.8, 2.0),
    "stripes": (0.4, 2.0),
    "weave": (0.3, 1.2),
    "carpet": (0.8, 2.5),
    "pebbles": (0.8, 3.0),
    "asphalt": (1.5, 4.0),
    "foliage": (0.4, 1.5),
    "poster": (0.5, 1.5),
    "books": (0.9, 1.4),
    "windows": (4.5, 8.0),
    "door": (0.8, 1.1),
    "photo": (0.5, 3.0),
}
"""Smallest and largest width in metres of one repetition of each texture."""
_VIVID = ("poster", "books", "carpet", "stripes")
"""Textures whose colours have little to do with each other."""
_PLAIN = ("plain", "plaster", "wood", "planks", "asphalt", "windows", "foliage")
"""Textures that sober worlds choose before others."""
_GAIN = (0.65, 1.15)
"""Least and greatest brightness of a thing, where its model has 1."""
_CAST = 0.06
"""How much the colours of its materials differ from the model's, standard deviation."""
_ACCENT = 0.12
"""Share of surfaces in sober worlds that have a colour of their own."""


@dataclass(frozen=True)
class Obstacle:
    """An upright box that no camera may enter."""

    centre: Array
    """World position, (3,)."""
    half: Array
    """Half sizes along its own axes, (3,)."""
    yaw: float
    """Angle about the vertical, in radians."""


def turn(yaw: float) -> Array:
    """Rotation (3, 3) about the vertical; columns are the turned axes."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def stretch(start: Array, end: Array) -> tuple[Array, Array, float]:
    """Directions (3,) along a wall from `start` to `end` (2,) and to its left, and its length in metres."""
    along = np.array([*(end - start), 0.0])
    length = float(np.linalg.norm(along))
    along /= length
    return along, np.cross(UP, along), length


@dataclass
class Builder:
    """Shapes in the making; `primitives` is what has been collected."""

    rng: Rng
    """The only source of chance."""
    pool: TexturePool
    """Textures to draw from."""
    photo_share: float = 0.5
    """How often a photograph replaces a pattern, where the pool has any."""
    sober: bool = False
    """Whether surfaces are mostly plain and muted, and photographs only hang on walls."""
    things: Things | None = None
    """Models to set up beside what is built of boxes; None for none."""
    obstacles: list[Obstacle] = field(default_factory=list)
    """What cameras keep clear of."""
    _meshes: list[Meshes] = field(default_factory=list)
    _records: list[tuple[Shape, Array, Array, Array, Material, Shade]] = field(default_factory=list)

    def material(
        self,
        *names: str,
        fill: tuple[float, float] | None = None,
        bright: tuple[float, float] = (0.35, 1.0),
        glow: float = 0.0,
    ) -> Material:
        """A random texture of one of these kinds in random colours.

        `fill` = (width, height) in metres stretches one repetition over the whole surface.
        """
        rng = self.rng
        if self.sober and any(name in _PLAIN for name in names) and rng.random() < 0.8:
            names = tuple(name for name in names if name in _PLAIN)
        name = str(rng.choice(names))
        pictured = name == "poster" or (fill is None and not self.sober)
        if pictured and "photo" in self.pool.indices and rng.random() < self.photo_share:
            name = "photo"
        texture = int(rng.choice(self.pool.indices[name]))
        if name == "photo":
            palette = np.eye(3) * rng.uniform(0.8, 1.1)
        else:
            palette = self._palette(bright, vivid=name in _VIVID)
            if name == "foliage":
                palette *= (0.7, 1.0, 0.45)
        if fill is not None:
            return Material(texture, palette, fill, (0.5, 0.5), glow=glow)
        tile = float(np.exp(rng.uniform(*np.log(_TILE[name]))))
        offset = (float(rng.random()), float(rng.random()))
        turned = name in ("wood", "planks", "stripes") and rng.random() < 0.5
        return Material(texture, palette, (tile, tile), offset, bool(turned), glow)

    def _palette(self, bright: tuple[float, float], vivid: bool) -> Array:
        rng = self.rng
        if self.sober and rng.random() > _ACCENT:
            return self._muted(bright)
        hue = rng.normal(0.09, 0.06) if rng.random() < 0.5 else rng.random()
        value = rng.uniform(*bright)
        first = [hue % 1, rng.beta(1.2, 4), value]
        second = [(hue + rng.normal(0, 0.08)) % 1, rng.beta(1.5, 4), value * rng.uniform(0.35, 1.3)]
        third = [rng.random(), rng.beta(1.2, 4), rng.uniform(0.1, 0.9)]
        if vivid:
            second = [rng.random(), rng.beta(2, 2), rng.uniform(0.2, 0.95)]
            third[1] = rng.beta(2, 3)
        colours = np.array([colorsys.hsv_to_rgb(*colour) for colour in (first, second, third)])
        return np.clip(colours, 0, 1)

    def _muted(self, bright: tuple[float, float]) -> Array:
        """Nearly grey colours (3, 3), the second and third not far from the first."""
        rng = self.rng
        hue, saturation = rng.normal(0.09, 0.05), rng.beta(1.2, 7)
        value = rng.uniform(*bright) * np.array([1.0, rng.uniform(0.75, 1.1), rng.uniform(0.6, 1)])
        colours = [colorsys.hsv_to_rgb(hue % 1, saturation, min(each, 1.0)) for each in value]
        return np.array(colours)

    # -- shapes ----------------------------------------------------------------------------

    def flat(
        self,
        centre: Array,
        right: Array,
        up: Array,
        size: tuple[float, float],
        material: Material,
        shade: Shade = NO_SHADE,
        shape: Shape = Shape.QUAD,
    ) -> None:
        """A flat shape of `size` = (width, height), seen from the side of `right` x `up`.

        `shade` darkens its left, right, lower and upper edge.
        """
        half = np.array([size[0] / 2, size[1] / 2, 0.0])
        self._add(shape, centre, np.stack([right, up, np.cross(right, up)]), half, material, shade)

    def box(
        self,
        centre: Array,
        size: tuple[float, float, float],
        rotation: Array,
        material: Material,
        top: Material | None = None,
        front: Material | None = None,
        grounded: float = 0.0,
    ) -> None:
        """A box of `size` = (x, y, z) with its axes in the columns of `rotation`.

        `front` is the face at -y; `grounded` darkens the sides towards the floor.
        """
        axes = _FACES @ rotation.T
        half = np.abs(_FACES) @ np.array(size) / 2
        centres = centre + half[:, 2:] * axes[:, 2]
        half[:, 2] = 0
        sides: Shade = (0.0, 0.0, grounded, 0.0)
        materials = [front or material, material, material, material, top or material, material]
        shades = [sides] * 4 + [NO_SHADE] * 2
        for face in zip(centres, axes, half, materials, shades, strict=True):
            self._add(Shape.QUAD, *face)

    def cylinder(
        self,
        base: Array,
        radius: float,
        height: float,
        material: Material,
        top: Material | None = None,
    ) -> None:
        """An upright cylinder standing at `base`, closed by discs."""
        middle = np.asarray(base) + UP * height / 2
        half = np.array([radius, radius, height / 2])
        self._add(Shape.CYLINDER, middle, np.eye(3), half, material, (0.0, 0.0, 0.3, 0.0))
        x, y, z = np.eye(3)
        size = (2 * radius, 2 * radius)
        self.flat(middle + z * height / 2, x, y, size, top or material, shape=Shape.DISC)
        self.flat(middle - z * height / 2, x, -y, size, top or material, shape=Shape.DISC)

    def ball(self, centre: Array, half: tuple[float, float, float], material: Material) -> None:
        """An ellipsoid with these half axes."""
        self._add(Shape.SPHERE, np.asarray(centre), np.eye(3), np.array(half), material, NO_SHADE)

    def thing(
        self, thing: Thing, base: Array, yaw: float, size: tuple[float, float, float]
    ) -> None:
        """A thing of a size, turned about the place on the floor below it, in colours a little its own."""
        rng = self.rng
        corners = (thing.vertices * np.array(size)) @ turn(yaw).T
        corners += np.asarray(base) + UP * thing.elevation
        tint = rng.uniform(*_GAIN) * rng.normal(1, _CAST, (len(thing.colour), 3))
        texture = np.array(self.pool.indices["skin"])[thing.skin]
        surface = pack_skins(texture, np.clip(thing.colour * tint, 0, 1))
        self._meshes.append(
            Meshes(corners.astype(np.float32)[thing.faces], thing.uv, thing.material, surface)
        )

    def obstacle(self, centre: Array, size: tuple[float, float, float], yaw: float = 0.0) -> None:
        """Keeps cameras out of an upright box."""
        self.obstacles.append(Obstacle(np.asarray(centre, dtype=float), np.array(size) / 2, yaw))

    def _add(
        self,
        shape: Shape,
        centre: Array,
        axes: Array,
        half: Array,
        material: Material,
        shade: Shade,
    ) -> None:
        self._records.append((shape, centre, axes, half, material, shade))

    def primitives(self, device: torch.device | str) -> Primitives:
        """Everything collected so far."""
        shapes, centres, axes, halves, materials, shades = zip(*self._records, strict=True)
        shape, half = np.array(shapes, dtype=np.int64), np.array(halves)
        to_local = np.array(axes) / np.where(half > 0, half, 1.0)[..., None]
        surface = pack(shape, half, to_local, list(materials), np.array(shades))
        arrays = (shape, np.array(centres), to_local, half, surface)
        return Primitives(*(torch.from_numpy(array).to(device) for array in arrays))

    def meshes(self) -> Meshes | None:
        """The things set up so far; None where there are none."""
        if not self._meshes:
            return None
        first = np.cumsum([0, *(len(each.surface) for each in self._meshes[:-1])])
        material = [each.material + row for each, row in zip(self._meshes, first, strict=True)]
        return Meshes(
            np.concatenate([each.corners for each in self._meshes]),
            np.concatenate([each.uv for each in self._meshes]),
            np.concatenate(material).astype(np.int32),
            np.concatenate([each.surface for each in self._meshes]),
        )
