"""What a primitive looks like: texture, colours, light it gives, shade at its edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.training.worlds.primitives import Shape
from mem3r_plugin.training.worlds.textures import SIZE, atlas_origin

Array = NDArray[np.float64]

# Columns of a packed surface.
ATLAS = slice(0, 2)
UV_MATRIX = slice(2, 6)
UV_OFFSET = slice(6, 8)
TEXELS_PER_METRE = 8
PALETTE = slice(9, 18)
EXTENT = slice(18, 20)
SHADE = slice(20, 24)
GLOW = 24
ROUND = 25
TO_LOCAL = slice(26, 35)
NORMAL = slice(32, 35)
"""The last row of `TO_LOCAL`: what flat shapes take their normal from."""
COLUMNS = 35


@dataclass(frozen=True)
class Material:
    """A texture of the pool in the colours and at the scale of one object."""

    texture: int
    """Number in the pool."""
    palette: Array
    """Colours in [0, 1] that the texture's three weights mix, (3, 3), one colour a row."""
    tile: tuple[float, float]
    """Metres that one repetition covers along the surface's two axes."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Shift of the texture in repetitions."""
    turned: bool = False
    """Whether the texture's axes are swapped."""
    glow: float = 0.0
    """Part of its brightness that does not depend on light, 0 to 1."""


def pack(
    shape: NDArray[np.int64], half: Array, to_local: Array, materials: list[Material], shade: Array
) -> NDArray[np.float32]:
    """What `render` reads for each pixel, (P, COLUMNS).

    Args:
        shape: the unit shapes, (P).
        half: half sizes in metres, (P, 3).
        to_local: world to local axes, (P, 3, 3).
        materials: one for each shape.
        shade: darkening towards the edges at -x, +x, -y, +y, 0 none to 1 black, (P, 4); a cheap stand-in
            for ambient occlusion in corners and under things.
    """
    flat = shape <= Shape.DISC
    # Surface coordinates are local x, y of flat shapes, angle and height of round ones.
    extent = np.stack([half[:, 0], np.where(flat, half[:, 1], half[:, 2])], -1)
    scale = extent / np.array([material.tile for material in materials])
    repeats = np.maximum(1, np.round(2 * np.pi * scale[:, 0]))  # a whole number leaves no seam
    across = np.where(flat, scale[:, 0], repeats / (2 * np.pi))
    down, zero = -scale[:, 1], np.zeros_like(across)
    turned = np.array([material.turned for material in materials])[:, None]
    rows = np.empty((len(shape), COLUMNS), dtype=np.float32)
    rows[:, ATLAS] = atlas_origin(np.array([material.texture for material in materials]))
    rows[:, UV_MATRIX] = np.where(
        turned, np.stack([zero, down, across, zero], -1), np.stack([across, zero, zero, down], -1)
    )
    rows[:, UV_OFFSET] = [material.offset for material in materials]
    rows[:, TEXELS_PER_METRE] = [SIZE / math.sqrt(math.prod(each.tile)) for each in materials]
    rows[:, PALETTE] = [material.palette.ravel() for material in materials]
    rows[:, EXTENT] = extent
    rows[:, SHADE] = shade
    rows[:, GLOW] = [material.glow for material in materials]
    rows[:, ROUND] = np.where(flat, 0, np.where(shape == Shape.CYLINDER, 1, 2))
    rows[:, TO_LOCAL] = to_local.reshape(-1, 9)
    return rows


def pack_skins(texture: NDArray[np.int64], colour: Array) -> NDArray[np.float32]:
    """What `render` reads for each pixel of a mesh, (K, COLUMNS), but for normals and texels a metre.

    Args:
        texture: number in the pool, (K).
        colour: RGB that dyes it, (K, 3).
    """
    rows = np.zeros((len(texture), COLUMNS), dtype=np.float32)
    rows[:, ATLAS] = atlas_origin(texture)
    rows[:, UV_MATRIX] = (1, 0, 0, 1)
    rows[:, PALETTE] = (np.eye(3) * np.asarray(colour)[:, None]).reshape(-1, 9)
    return rows
