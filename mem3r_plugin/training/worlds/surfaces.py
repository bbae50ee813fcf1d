"""What a primitive looks like: texture, colours, light it gives, shade at its edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.training.worlds.primitives import FLAT, Shape
from mem3r_plugin.training.worlds.textures import SIZE

Array = NDArray[np.float64]

NO_SHADE = (0.0, 0.0, 0.0, 0.0)

# Columns of a packed surface row.
TEXTURE = 0
UV_MATRIX = slice(1, 5)
UV_OFFSET = slice(5, 7)
TEXELS_PER_METRE = 7
PALETTE = slice(8, 17)
EXTENT = slice(17, 19)
SHADE = slice(19, 23)
GLOW = 23
ROUND = 24
TO_LOCAL = slice(25, 34)
COLUMNS = 34


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
    shape: Shape,
    half: Array,
    to_local: Array,
    material: Material,
    shade: tuple[float, float, float, float] = NO_SHADE,
) -> Array:
    """The row that `render` reads for each pixel.

    `shade` darkens towards the surface's edges at -x, +x, -y, +y (0 none, 1 black), a cheap stand-in for
    ambient occlusion in corners and under objects.
    """
    # Surface coordinates: local x, y of flat shapes; angle and height of cylinders; the two angles of spheres.
    if shape in FLAT:
        extent = (half[0], half[1])
    elif shape == Shape.CYLINDER:
        extent = (half[0], half[2])
    else:
        extent = (half[0], half[2])
    scale = [extent[0] / material.tile[0], -extent[1] / material.tile[1]]
    if shape not in FLAT:  # a whole number of repetitions leaves no seam
        scale[0] = max(1, round(2 * math.pi * scale[0])) / (2 * math.pi)
    matrix = (0.0, scale[1], scale[0], 0.0) if material.turned else (scale[0], 0.0, 0.0, scale[1])
    row = np.empty(COLUMNS)
    row[TEXTURE] = material.texture
    row[UV_MATRIX] = matrix
    row[UV_OFFSET] = material.offset
    row[TEXELS_PER_METRE] = SIZE / math.sqrt(material.tile[0] * material.tile[1])
    row[PALETTE] = material.palette.ravel()
    row[EXTENT] = extent
    row[SHADE] = shade
    row[GLOW] = material.glow
    row[ROUND] = 0 if shape in FLAT else 1 if shape == Shape.CYLINDER else 2
    row[TO_LOCAL] = to_local.ravel()
    return row
