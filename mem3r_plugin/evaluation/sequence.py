"""Picture sequences with known poses and, some of them, known depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.geometry import Intrinsics

DepthDecoder = Callable[[Path], NDArray[np.float32]]
"""Reads one file as z-depth (h, w) in the unit of the poses; 0 = unknown."""


@dataclass(frozen=True, eq=False)
class PosedSequence:
    """The truth about a sequence of pictures, whatever layout it is stored in.

    Pixel centres lie at half-integers and camera axes are OpenCV's, as everywhere in this package;
    `mem3r_plugin.evaluation.layouts` brings every benchmark to that.
    """

    directory: Path
    """Where it lies."""
    images: tuple[Path, ...]
    """The pictures in order, those without a known pose among them."""
    timestamps: NDArray[np.float64]
    """Seconds, shape (N,)."""
    camera_to_world: NDArray[np.float64]
    """Poses, OpenCV axes, shape (N, 4, 4); NaN where unknown."""
    intrinsics: Intrinsics
    """The camera of all pictures."""
    depth_files: tuple[Path | None, ...] = ()
    """A depth map for every picture, None where there is none; empty for a sequence without depth."""
    decode_depth: DepthDecoder | None = None
    """How to read a depth map."""

    @classmethod
    def load(cls, directory: str | Path) -> PosedSequence:
        """Read a sequence in the layout of `training.worlds.write_sequence`.

        Raises:
            SourceError: a file is missing or damaged, or pictures and poses differ in number.
        """
        from mem3r_plugin.evaluation.layouts import load_sequence

        return load_sequence(directory, "mem3r")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.directory.resolve().name

    @property
    def has_depth(self) -> bool:
        """Whether any picture has a depth map."""
        return any(file is not None for file in self.depth_files)

    @property
    def posed(self) -> NDArray[np.bool_]:
        """Whether the pose of each picture is known, shape (N,)."""
        return np.asarray(np.isfinite(self.camera_to_world).all(axis=(1, 2)))

    def depth(self, index: int) -> NDArray[np.float32]:
        """z-depth (height, width) of a picture in the unit of the poses; 0 = unknown.

        A depth camera's map of another size than the picture is brought to the picture's grid by
        the nearest neighbour.

        Raises:
            SourceError: the sequence has no depth, or the file is missing or damaged.
        """
        size = (self.intrinsics.width, self.intrinsics.height)
        depth = self.stored_depth(index)
        if depth.shape == size[::-1]:
            return depth
        return cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)

    def stored_depth(self, index: int) -> NDArray[np.float32]:
        """z-depth (h, w) of a picture in the unit of the poses, in the size it is stored in; 0 = unknown.

        A picture without a depth map gets an empty one of the size of the others.

        Raises:
            SourceError: the sequence has no depth, or the file is missing or damaged.
        """
        if not self.has_depth or self.decode_depth is None:
            raise SourceError(f"{self.directory} has no depth")
        file = self.depth_files[index]
        if file is None:
            other = next(file for file in self.depth_files if file is not None)
            return np.zeros_like(self.decode_depth(other))
        return self.decode_depth(file)

    @property
    def depth_step(self) -> float | None:
        """The depth that one step of a 16-bit depth map stands for; None where depth has no steps."""
        return getattr(self.decode_depth, "step", None)
