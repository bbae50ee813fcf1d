"""A pool of textures, baked once with their mip levels.

A texel holds three weights that mix the three colours of a material's palette, so one baked brick wall
serves in every colour of brick and mortar; for a photograph the palette is red, green and blue.
Sampling is trilinear, which keeps pictures of any size free of aliasing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mem3r_plugin.errors import SourceError

Array = NDArray[np.float64]

SIZE = 256
"""Texels along a side of the finest level."""
LEVELS = 9
"""Mip levels, from 256 down to 1 texel."""
VARIANTS = 5
"""Baked variants of each procedural texture."""
_BLOCK = (388, 272)
"""Width and height of a texture in the atlas: level 0 on the left, the coarser ones below each other on
the right, each with a border of one texel that repeats the opposite side."""
_COLUMNS = 10
"""Textures side by side in the atlas."""
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class TexturePool:
    """All textures a world may use, seamless and mip-mapped, in one atlas."""

    atlas: Tensor
    """Palette weights in [0, 1], (1, 3, height, width)."""
    names: tuple[str, ...]
    """The kind of each texture: a key of `PATTERNS`, `photo`, or `skin` of things."""

    @cached_property
    def indices(self) -> dict[str, list[int]]:
        """The textures of each kind."""
        return {
            name: [i for i, each in enumerate(self.names) if each == name] for name in self.names
        }

    def sample(self, origin: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
        """Trilinear look-up of N points.

        Args:
            origin: corners of the textures in the atlas (`atlas_origin`), (2, N).
            u: horizontal coordinates, one unit a repetition, (N).
            v: vertical coordinates, (N).
            level: fractional mip level, 0 the finest, (N).

        Returns:
            palette weights, (3, N).
        """
        level = level.clamp(0, LEVELS - 1.001)
        fine = level.floor()
        both = torch.stack([fine, fine + 1])
        side = torch.exp2(8 - both)
        left = both.clamp(max=1) * (SIZE + 2)
        top = (SIZE - 2 * side + 2 * (both - 1)).clamp(min=0)
        x = origin[0] + left + 1 + (u - u.floor()) * side
        y = origin[1] + top + 1 + (v - v.floor()) * side
        height, width = self.atlas.shape[-2:]
        grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], -1)
        weights = functional.grid_sample(self.atlas, grid[None], align_corners=False)[0]
        return torch.lerp(weights[:, 0], weights[:, 1], level - fine)


def atlas_origin(texture: NDArray[np.int64]) -> Array:
    """Corners (N, 2), x and y, of textures (N) in the atlas."""
    return np.stack([texture % _COLUMNS, texture // _COLUMNS], -1) * np.array(_BLOCK, dtype=float)


@lru_cache(maxsize=2)
def texture_pool(
    folder: Path | None = None, device: str = "cpu", skins: tuple[Path, ...] = ()
) -> TexturePool:
    """The procedural textures and, if given, every picture of `folder`; baked on first use.

    Args:
        folder: pictures for all surfaces.
        device: where to keep the atlas.
        skins: pictures for surfaces of things, in their order.

    Raises:
        SourceError: the folder holds no readable picture.
    """
    pictures = [] if folder is None else _read_pictures(folder)
    names, blocks = [], []
    for kind, (name, pattern) in enumerate(PATTERNS.items()):
        for variant in range(VARIANTS):
            rng = np.random.default_rng([kind, variant])
            names.append(name)
            blocks.append(_mip_block(np.clip(pattern(rng), 0, 1)))
    for picture in pictures:
        names.append("photo")
        blocks.append(_mip_block(picture))
    for skin in skins:
        names.append("skin")
        blocks.append(_mip_block(_read_picture(skin)))
    rows = -(-len(blocks) // _COLUMNS)
    atlas = np.zeros((3, rows * _BLOCK[1], _COLUMNS * _BLOCK[0]), dtype=np.float32)
    for (x, y), block in zip(atlas_origin(np.arange(len(blocks))).astype(int), blocks, strict=True):
        atlas[:, y : y + _BLOCK[1], x : x + _BLOCK[0]] = block
    return TexturePool(torch.from_numpy(atlas)[None].to(device), tuple(names))


def _mip_block(texture: Array) -> NDArray[np.float32]:
    """A texture (SIZE, SIZE, 3) with its mip levels as a block (3, height, width) of the atlas."""
    block = np.zeros((3, _BLOCK[1], _BLOCK[0]), dtype=np.float32)
    left = top = 0
    for level in range(LEVELS):
        padded = np.pad(texture, ((1, 1), (1, 1), (0, 0)), mode="wrap").transpose(2, 0, 1)
        side = padded.shape[1]
        block[:, top : top + side, left : left + side] = padded
        left, top = SIZE + 2, top + side if level else 0
        texture = (
            cv2.resize(texture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            if side > 3
            else texture
        )
    return block


def _read_pictures(folder: Path) -> list[Array]:
    if not folder.is_dir():
        raise SourceError(f"texture folder {folder} does not exist")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise SourceError(f"texture folder {folder} holds no pictures (jpg, png, webp, bmp)")
    return [_read_picture(file) for file in files]


def _read_picture(file: Path) -> Array:
    try:
        with Image.open(file) as image:
            square = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    except OSError as error:
        raise SourceError(f"texture {file} cannot be read: {error}") from error
    return np.asarray(square) / 255.0


# -- patterns: each returns palette weights (SIZE, SIZE, 3), seamless ------------------------------

Rng = np.random.Generator


def _noise(rng: Rng, slope: float, coarsest: float = 1.0, stretch: float = 1.0) -> Array:
    """Seamless Gaussian noise with a power-law spectrum, mapped to [0, 1] with mean 1/2.

    `coarsest` is the lowest frequency in cycles a tile, `stretch` makes it vary slower along y.
    """
    fy = np.fft.fftfreq(SIZE)[:, None] * SIZE * stretch
    fx = np.fft.rfftfreq(SIZE)[None] * SIZE
    frequency = np.hypot(fx, fy)
    amplitude = np.where(frequency >= coarsest, np.maximum(frequency, 1e-9) ** -slope, 0.0)
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * amplitude)
    return np.clip(0.5 + noise / (4 * noise.std()), 0, 1)


def _mix(value: Array, second: Array | float = 0.0, third: Array | float = 0.0) -> Array:
    """Weights of brightness `value`, going over to the second and the third colour."""
    second, third = np.broadcast_to(second, value.shape), np.broadcast_to(third, value.shape)
    first = (1 - second) * (1 - third)
    return np.stack([first, second * (1 - third), third], -1) * value[..., None]


def _grid(columns: int, rows: int, shift: float = 0.0) -> tuple[Array, Array, Array, Array]:
    """Cell column and row, and the position within the cell in [0, 1), of every texel."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    row = np.floor(y * rows)
    across = x * columns + shift * (row % 2)
    return np.floor(across) % columns, row, across % 1.0, (y * rows) % 1.0


def _per_cell(rng: Rng, column: Array, row: Array, low: float, high: float) -> Array:
    values = rng.uniform(low, high, (int(row.max()) + 1, int(column.max()) + 1))
    return values[row.astype(int), column.astype(int)]


def _border(x: Array, y: Array, width_x: float, width_y: float) -> Array:
    inside = (np.minimum(x, 1 - x) > width_x) & (np.minimum(y, 1 - y) > width_y)
    return np.where(inside, 0.0, 1.0)


def _plain(rng: Rng) -> Array:
    return _mix(0.93 + 0.14 * (_noise(rng, 0.6) - 0.5), 0.25 * _noise(rng, 1.5))


def _plaster(rng: Rng) -> Array:
    blotches = _noise(rng, 1.3)
    return _mix(
        0.75 + 0.4 * (_noise(rng, 0.7, 4) - 0.5) + 0.25 * blotches,
        np.clip(3 * blotches - 1.6, 0, 1),
    )


def _marble(rng: Rng) -> Array:
    veins = np.abs(_noise(rng, 1.6) - 0.5) * rng.uniform(10, 18)
    return _mix(0.85 + 0.2 * _noise(rng, 1.0), np.exp(-veins), 0.5 * np.exp(-3 * veins))


def _brick(rng: Rng) -> Array:
    columns, rows = int(rng.integers(3, 6)), 2 * int(rng.integers(4, 7))
    column, row, x, y = _grid(columns, rows, 0.5)
    mortar = _border(x, y, 0.03, 0.03 * rows / columns)
    return _mix(
        _per_cell(rng, column, row, 0.6, 1.0) * (0.8 + 0.4 * (_noise(rng, 0.8) - 0.5)),
        mortar,
        (1 - mortar) * _per_cell(rng, column, row, -0.4, 0.6).clip(0),
    )


def _tiles(rng: Rng) -> Array:
    cells = int(rng.integers(2, 6))
    column, row, x, y = _grid(cells, cells)
    joint = _border(x, y, 0.025, 0.025)
    return _mix(
        _per_cell(rng, column, row, 0.75, 1.0) * (0.85 + 0.3 * (_noise(rng, 1.2) - 0.5)), joint
    )


def _checker(rng: Rng) -> Array:
    cells = 2 * int(rng.integers(1, 4))
    column, row, _, _ = _grid(cells, cells)
    return _mix(0.8 + 0.3 * (_noise(rng, 1.0) - 0.5), (column + row) % 2)


def _wood(rng: Rng) -> Array:
    grain = _noise(rng, 1.1, stretch=12)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (4 * grain + 2 * _noise(rng, 2.0, stretch=4)))
    return _mix(0.7 + 0.3 * grain, rings * 0.6)


def _planks(rng: Rng) -> Array:
    columns = int(rng.integers(4, 9))
    column, row, x, y = _grid(columns, 2)
    gap = _border(x, y, 0.03, 0.006)
    grain = _noise(rng, 1.0, stretch=14)
    tone = _per_cell(rng, column, row, 0.0, 0.9)
    return _mix((0.65 + 0.5 * (grain - 0.5) + 0.25 * tone) * (1 - 0.75 * gap), tone)


def _stripes(rng: Rng) -> Array:
    x = (np.mgrid[:SIZE, :SIZE][1] + 0.5) / SIZE
    count = int(rng.integers(3, 10))
    duty = rng.uniform(0.15, 0.6)
    second = (x * count) % 1.0 < duty
    third = (x * count + 0.5) % 1.0 < rng.uniform(0, 0.3)
    return _mix(0.9 + 0.15 * (_noise(rng, 0.6) - 0.5), second * 1.0, third * 1.0)


def _weave(rng: Rng) -> Array:
    count = int(rng.integers(12, 28))
    _, _, x, y = _grid(count, count)
    column, row, _, _ = _grid(count, count)
    over = (column + row) % 2
    ridge = np.where(over > 0, np.sin(np.pi * x), np.sin(np.pi * y))
    return _mix(0.55 + 0.35 * ridge + 0.2 * (_noise(rng, 1.0) - 0.5), over * 0.8)


def _carpet(rng: Rng) -> Array:
    figure = _noise(rng, 2.2, 2)
    bands = np.floor(figure * rng.integers(5, 9)) % 3
    return _mix(
        0.7 + 0.6 * (_noise(rng, 0.2) - 0.5),
        np.where(bands == 1, 1.0, 0.0),
        np.where(bands == 2, 1.0, 0.0),
    )


def _pebbles(rng: Rng) -> Array:
    count = int(rng.integers(40, 160))
    points = rng.uniform(0, SIZE, (count, 2))
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    away = np.abs(np.stack([x, y], -1)[None] - points[:, None, None])
    distance = np.minimum(away, SIZE - away)
    squared = np.square(distance).sum(-1)
    nearest, second = np.sqrt(np.partition(squared, 1, axis=0)[:2])
    tone = rng.uniform(0, 1, count)[np.argmin(squared, axis=0)]
    edge = np.clip((second - nearest) / 4, 0, 1)
    return _mix(
        (0.6 + 0.4 * tone + 0.25 * (_noise(rng, 0.8) - 0.5)) * (0.4 + 0.6 * edge), 1 - edge, tone
    )


def _asphalt(rng: Rng) -> Array:
    cracks = np.exp(-np.abs(_noise(rng, 1.4) - 0.5) * 60)
    return _mix(
        0.7 + 0.7 * (_noise(rng, 0.1) - 0.5) + 0.2 * _noise(rng, 1.5),
        0.6 * cracks,
        np.clip(6 * _noise(rng, 1.8) - 4.5, 0, 0.5),
    )


def _foliage(rng: Rng) -> Array:
    leaves = _noise(rng, 0.9, 6)
    return _mix(
        0.35 + 0.9 * leaves * _noise(rng, 0.5, 12),
        np.clip(4 * leaves - 2, 0, 1),
        np.where(_noise(rng, 1.0, 10) > 0.8, 1.0, 0.0),
    )


def _poster(rng: Rng) -> Array:
    """A picture of overlapping shapes and lines of writing in all three colours."""
    canvas = (
        np.tile(rng.dirichlet([1, 1, 1]), (SIZE, SIZE, 1))
        * (0.6 + 0.4 * _noise(rng, 1.6))[..., None]
    )
    canvas = np.ascontiguousarray(canvas)
    for _ in range(int(rng.integers(6, 16))):
        colour = (rng.dirichlet([0.4, 0.4, 0.4]) * rng.uniform(0.3, 1.0)).tolist()
        centre, radius = rng.integers(0, SIZE, 2).tolist(), int(rng.integers(8, 60))
        if rng.random() < 0.5:
            cv2.circle(canvas, centre, radius, colour, -1, cv2.LINE_AA)
        else:
            corners = (centre + radius * rng.uniform(-1, 1, (4, 2))).astype(np.int32)
            cv2.fillConvexPoly(canvas, cv2.convexHull(corners), colour, cv2.LINE_AA)
    for line in range(int(rng.integers(0, 9))):
        start = int(rng.integers(10, 60))
        length, top = int(rng.integers(60, 180)), int(20 + 24 * line)
        for left in range(start, start + length, 9):
            if rng.random() < 0.8:
                cv2.rectangle(
                    canvas,
                    (left, top),
                    (left + 5, top + int(rng.integers(6, 11))),
                    (0.05, 0.05, 0.05),
                    -1,
                )
    return canvas


def _books(rng: Rng) -> Array:
    canvas = np.zeros((SIZE, SIZE, 3))
    for shelf in range(4):
        bottom, left = (shelf + 1) * SIZE // 4 - 4, 0
        while left < SIZE:
            width, height = int(rng.integers(5, 16)), int(rng.integers(38, 58))
            colour = rng.dirichlet([0.5, 0.5, 0.5]) * rng.uniform(0.3, 1.0)
            if rng.random() < 0.93:
                canvas[bottom - height : bottom, left : left + width - 1] = colour
                label = bottom - int(rng.integers(10, height))
                canvas[label : label + 5, left + 1 : left + width - 2] = 0.8 - 0.5 * colour
            left += width
        canvas[bottom : bottom + 4] = [0.6, 0.1, 0.0]
    return canvas


def _windows(rng: Rng) -> Array:
    """A facade: a grid of windows with frames and panes, on a wall with fine structure."""
    columns, rows = int(rng.integers(2, 4)), 2
    column, row, x, y = _grid(columns, rows)
    margin_x, margin_y = rng.uniform(0.2, 0.33), rng.uniform(0.15, 0.25)
    glass = 1 - _border(x, y, margin_x, margin_y)
    frame = (1 - _border(x, y, margin_x - 0.04, margin_y - 0.03)) - glass
    bars = (np.abs(x - 0.5) < 0.015) | (np.abs(y - rng.uniform(0.35, 0.6)) < 0.012)
    frame = np.maximum(frame, glass * bars)
    sill = (
        (y > 1 - margin_y + 0.03) & (y < 1 - margin_y + 0.07) & (np.abs(x - 0.5) < 0.55 - margin_x)
    ) * 1.0
    glass = glass * (1 - frame)
    pane = _per_cell(rng, column, row, 0.2, 0.9) * (0.7 + 0.6 * (_noise(rng, 1.8) - 0.5))
    wall = 0.75 + 0.35 * (_noise(rng, 0.8) - 0.5) - 0.2 * ((y * 12) % 1.0 < 0.08)
    return _mix(np.where(glass > 0, pane, wall), np.maximum(frame, sill), glass)


def _door(rng: Rng) -> Array:
    """A panelled door with a handle, to be stretched over one surface."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    rows = int(rng.integers(1, 4))
    _, _, across, down = _grid(1, rows)
    panel = 1 - _border(across, down, 0.16, 0.1)
    edge = (1 - _border(across, down, 0.13, 0.08)) - panel
    frame = _border(x, y, 0.05, 0.025)
    handle = (np.abs(x - 0.86) < 0.035) & (np.abs(y - 0.55) < 0.012)
    value = 0.8 + 0.2 * (_noise(rng, 1.0, stretch=8) - 0.5) - 0.35 * edge
    return _mix(value, np.maximum(frame, 0.3 * panel), handle * 1.0)


PATTERNS: dict[str, Callable[[Rng], Array]] = {
    "plain": _plain,
    "plaster": _plaster,
    "marble": _marble,
    "brick": _brick,
    "tiles": _tiles,
    "checker": _checker,
    "wood": _wood,
    "planks": _planks,
    "stripes": _stripes,
    "weave": _weave,
    "carpet": _carpet,
    "pebbles": _pebbles,
    "asphalt": _asphalt,
    "foliage": _foliage,
    "poster": _poster,
    "books": _books,
    "windows": _windows,
    "door": _door,
}
"""The procedural patterns by name."""
