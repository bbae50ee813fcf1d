"""Things of real shape: textured models of furniture, cars, trees and people, read from a folder.

`mem3r things` makes such a folder (`catalogue.py`); builders set them up beside what they make of boxes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mem3r_plugin.errors import ConfigError, SourceError

CATALOGUE = "things.json"
"""Names, kinds and sizes of the things of a folder."""
GEOMETRY = "things.safetensors"
"""Their triangles."""
SKINS = "skins"
"""The folder of their textures, named `000.jpg` and so on."""

Place = Literal["wall", "free", "corridor", "pavement", "kerb", "garden", "on top"]
"""Where things may stand."""
_HOME = {"Bathroom", "Bedroom", "Kitchen", "Living room", "Office"}
_INDOORS = _HOME | {"Characters", "Lights", "Miscellaneous"}
_OUTDOORS = {"Characters", "Exterior"}
_LOW, _HIGH = 0.3, 2.6
"""Metres above the floor from which on things hang, and above which they are no part of a room."""


@dataclass(frozen=True)
class Thing:
    """A textured model that stands on the floor, or hangs, with its front towards -y."""

    name: str
    """What it is."""
    category: str
    """What it belongs to, as the catalogue says: `Kitchen`, `Vehicles`."""
    size: tuple[float, float, float]
    """Width, depth and height in metres."""
    elevation: float
    """Metres from the floor to its lower side; 0 for what stands."""
    top: float | None
    """Metres from its lower side to where small things may lie; None where there is no such place."""
    vertices: NDArray[np.float32]
    """In a box that reaches from -1/2 to 1/2 along x and y and from 0 to 1 along z, (V, 3)."""
    faces: NDArray[np.int32]
    """Vertices of each triangle, (F, 3)."""
    uv: NDArray[np.float32]
    """Texture coordinates of the corners, one unit a repetition, v downwards, (F, 3, 2)."""
    material: NDArray[np.int32]
    """Row of `colour` and `skin` of each triangle, (F)."""
    colour: NDArray[np.float32]
    """RGB that dyes the texture, in [0, 1], (K, 3)."""
    skin: NDArray[np.int32]
    """Number of the texture in the folder, (K)."""

    @property
    def suits(self) -> set[Place]:
        """Where it may stand."""
        return {place for place, fits in _SUITS.items() if fits(self)}


@dataclass(frozen=True)
class Things:
    """All things of a folder."""

    things: tuple[Thing, ...]
    """In the order of the catalogue."""
    skins: tuple[Path, ...]
    """Their textures; `Thing.skin` counts them."""

    @cached_property
    def at(self) -> dict[Place, list[Thing]]:
        """The things that may stand at each place."""
        found: dict[Place, list[Thing]] = {place: [] for place in _SUITS}
        for thing in self.things:
            for place in thing.suits:
                found[place].append(thing)
        return found


@lru_cache(maxsize=2)
def load_things(folder: Path) -> Things:
    """The things of a folder made by `mem3r things`.

    Raises:
        SourceError: it holds none.
    """
    try:
        catalogue = json.loads((folder / CATALOGUE).read_text(encoding="utf-8"))
        tensors = load_file(folder / GEOMETRY)
        skins = tuple(sorted((folder / SKINS).iterdir()))
    except (OSError, ValueError, SafetensorError) as error:
        raise SourceError(
            f"{folder} holds no things ({error}); `mem3r things {folder}` fetches some"
        ) from error
    parts = ("vertices", "faces", "uv", "material", "colour", "skin")
    things = tuple(
        Thing(
            each["name"],
            each["category"],
            tuple(each["size"]),
            each["elevation"],
            each["top"],
            *(tensors[f"{index}.{part}"] for part in parts),
        )
        for index, each in enumerate(catalogue)
    )
    return Things(things, skins)


def import_open3d() -> Any:
    """Open3D, which reads the models of things and casts the rays that meet them.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import open3d
    except ImportError as error:
        raise ConfigError('things need Open3D: pip install "mem3r-plugin[open3d]"') from error
    return open3d


def _stands(thing: Thing, least: float, most: float, tallest: float = np.inf) -> bool:
    """Whether a thing stands and its longer side and height are within bounds, in metres."""
    side = max(thing.size[:2])
    return thing.elevation < _LOW and least <= side <= most and 0.05 < thing.size[2] <= tallest


def _fits_wall(thing: Thing) -> bool:
    if thing.category not in _HOME | {"Lights"} or max(thing.size[:2]) > 2.8:
        return False
    hangs = _LOW <= thing.elevation <= _HIGH - thing.size[2]
    return hangs or (thing.elevation < _LOW and thing.size[2] > 0.5)


_SUITS: dict[Place, Callable[[Thing], bool]] = {
    "wall": _fits_wall,
    "free": lambda thing: thing.category in _INDOORS and _stands(thing, 0.25, 2.2, _HIGH),
    "corridor": lambda thing: (
        thing.category in _INDOORS
        and _stands(thing, 0.25, 1.6, 2.2)
        and thing.size[1] <= 0.6
        and thing.size[2] >= 0.3
    ),
    "pavement": lambda thing: (
        thing.category in _OUTDOORS and _stands(thing, 0.25, 3.6) and thing.size[2] >= 0.3
    ),
    "kerb": lambda thing: thing.category == "Vehicles" and _stands(thing, 2.3, 15.0),
    "garden": lambda thing: (
        thing.category == "Exterior" and _stands(thing, 0.3, 11.0) and thing.size[2] > 1.0
    ),
    "on top": lambda thing: (
        thing.category in _INDOORS and _stands(thing, 0.04, 0.5, 0.6) and thing.elevation == 0
    ),
}
