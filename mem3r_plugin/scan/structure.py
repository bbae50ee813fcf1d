"""The points behind a refined scan: what bundle adjustment triangulated, and where frames see it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ScanError
from mem3r_plugin.files import write_atomically
from mem3r_plugin.scan.format import STRUCTURE


@dataclass(frozen=True, eq=False)
class Structure:
    """P points in a scan's world and unit of length, with M sightings of them in its pictures."""

    points: NDArray[np.float64]
    """World coordinates, shape (P, 3)."""
    frames: NDArray[np.int64]
    """The frame of every sighting, rising, shape (M,)."""
    rows: NDArray[np.int64]
    """The point of every sighting, from 0 to P - 1, shape (M,)."""
    pixels: NDArray[np.float64]
    """Where a feature was found or followed to, original pixels, shape (M, 2)."""

    @classmethod
    def empty(cls) -> Structure:
        """No point and no sighting."""
        nothing = np.zeros(0, np.int64)
        return cls(np.zeros((0, 3)), nothing, nothing, np.zeros((0, 2)))

    def save(self, scan: Path) -> None:
        """Write it into the scan's folder, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        content = io.BytesIO()
        np.savez(
            content,
            points=self.points,
            frames=self.frames.astype(np.int32),
            rows=self.rows.astype(np.int32),
            pixels=self.pixels.astype(np.float32),
        )
        write_atomically(scan / STRUCTURE, content.getvalue())

    @classmethod
    def load(cls, scan: Path) -> Structure | None:
        """Read that of the scan in a folder; None where it has none.

        Raises:
            ScanError: the file is damaged.
        """
        file = scan / STRUCTURE
        if not file.exists():
            return None
        try:
            with np.load(file) as stored:
                structure = cls(
                    stored["points"].astype(np.float64),
                    stored["frames"].astype(np.int64),
                    stored["rows"].astype(np.int64),
                    stored["pixels"].astype(np.float64),
                )
            structure._check()
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ScanError(
                f"{file} is damaged ({error}); refine the scan again with --overwrite"
            ) from error
        return structure

    def _check(self) -> None:
        count = len(self.frames)
        shapes = self.points.shape[1:], self.rows.shape, self.pixels.shape
        if shapes != ((3,), (count,), (count, 2)):
            raise ValueError("its arrays do not fit each other")
        if count and not (self.rows.min() >= 0 and self.rows.max() < len(self.points)):
            raise ValueError("a sighting names a point that is not there")
        if not (np.diff(self.frames) >= 0).all():
            raise ValueError("its sightings are not in the order of the frames")
