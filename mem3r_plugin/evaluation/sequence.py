"""Picture sequences with known poses and, some of them, known depth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.exports.tum import read_tum
from mem3r_plugin.geometry import Intrinsics


@dataclass(frozen=True, eq=False)
class PosedSequence:
    """A folder with `rgb/`, `poses.txt` (TUM), `meta.json` and, where depth is known, `depth/`.

    `training.worlds.write_sequence` writes this layout. `meta.json` gives the intrinsics with pixel
    centres at integers; here they lie at half-integers as everywhere in this package.
    """

    directory: Path
    """Where it lies."""
    images: tuple[Path, ...]
    """The pictures in order."""
    timestamps: NDArray[np.float64]
    """Seconds, shape (N,)."""
    camera_to_world: NDArray[np.float64]
    """Poses, OpenCV axes, shape (N, 4, 4)."""
    intrinsics: Intrinsics
    """The camera of all pictures."""
    depth_scale: float | None
    """What a stored depth value is divided by; None without depth."""

    @classmethod
    def load(cls, directory: str | Path) -> PosedSequence:
        """Read a sequence; depth maps are read when asked for.

        Raises:
            SourceError: a file is missing or damaged, or pictures and poses differ in number.
        """
        directory = Path(directory)
        meta = _read_meta(directory / "meta.json")
        images = tuple(sorted((directory / "rgb").glob("*")))
        timestamps, poses = read_tum(directory / "poses.txt")
        if len(images) != len(poses):
            raise SourceError(f"{directory} has {len(images)} pictures but {len(poses)} poses")
        try:
            return cls(directory, images, timestamps, poses, _intrinsics(meta), _depth_scale(meta))
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{directory / 'meta.json'} lacks a usable value: {error}") from error

    def __len__(self) -> int:
        return len(self.images)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.directory.resolve().name

    def depth(self, index: int) -> NDArray[np.float32]:
        """z-depth (height, width) of a picture in the unit of the poses; 0 = unknown.

        Raises:
            SourceError: the sequence has no depth, or the file is missing or damaged.
        """
        if self.depth_scale is None:
            raise SourceError(f"{self.directory} has no depth")
        file = self.directory / "depth" / f"{self.images[index].stem}.png"
        stored = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if stored is None:
            raise SourceError(f"{file} is missing or damaged")
        return stored.astype(np.float32) / np.float32(self.depth_scale)


def _read_meta(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise SourceError(f"no posed sequence: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(f"{file} is not valid JSON: {error}") from error


def _intrinsics(meta: dict[str, Any]) -> Intrinsics:
    return Intrinsics(
        float(meta["fx"]),
        float(meta["fy"]),
        float(meta["cx"]) + 0.5,
        float(meta["cy"]) + 0.5,
        int(meta["width"]),
        int(meta["height"]),
    )


def _depth_scale(meta: dict[str, Any]) -> float | None:
    scale = meta.get("depth_scale")
    return None if scale is None else float(scale)
