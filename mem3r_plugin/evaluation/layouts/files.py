"""What the layouts share: reading files, with errors that name them."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.sequence import DepthDecoder
from mem3r_plugin.stream.images import IMAGE_SUFFIXES, natural_key


def pictures(directory: Path, pattern: str = "*") -> tuple[Path, ...]:
    """The pictures of a folder in the order of their names; numbers in names need no padding.

    Raises:
        SourceError: there is none.
    """
    files = [file for file in directory.glob(pattern) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise SourceError(f"{directory} has no pictures")
    return tuple(sorted(files, key=natural_key))


def picture_size(file: Path) -> tuple[int, int]:
    """Width and height of a picture.

    Raises:
        SourceError: the file is missing or no picture.
    """
    try:
        with Image.open(file) as picture:
            return picture.size
    except OSError as error:
        raise SourceError(f"cannot read the picture {file}: {error}") from error


def numbers(file: Path, columns: int | None = None) -> NDArray[np.float64]:
    """A text file of numbers, shape (rows, columns).

    Raises:
        SourceError: the file is missing, or its rows do not hold that many numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file gets our own message
            rows = np.loadtxt(file, dtype=np.float64, ndmin=2)
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error}") from error
    except ValueError as error:
        raise SourceError(f"{file} is damaged: {error}") from error
    if rows.size == 0 or (columns is not None and rows.shape[1] != columns):
        raise SourceError(f"{file} is damaged: a line has {columns or 'some'} numbers")
    return rows


def json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        SourceError: the file is missing or holds something else.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"no posed sequence: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise SourceError(f"{file} is not a JSON object")
    return record


def stored_depth(values_per_unit: float, unknown: int = 0) -> DepthDecoder:
    """A decoder of 16-bit pictures whose values are divided by `values_per_unit`."""
    return _StoredDepth(values_per_unit, unknown)


@dataclass(frozen=True)
class _StoredDepth:
    values_per_unit: float
    unknown: int

    @property
    def step(self) -> float:
        return 1 / self.values_per_unit

    def __call__(self, file: Path) -> NDArray[np.float32]:
        stored = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) if file.is_file() else None
        if stored is None or stored.ndim != 2:
            raise SourceError(f"{file} is missing or damaged")
        depth = stored.astype(np.float32) / np.float32(self.values_per_unit)
        depth[stored == self.unknown] = 0
        return depth


def existing(files: list[Path]) -> tuple[Path | None, ...]:
    """The files, None where there is none; empty where there is none at all."""
    found = tuple(file if file.is_file() else None for file in files)
    return found if any(found) else ()


def at_rate(count: int, fps: float = 30.0) -> NDArray[np.float64]:
    """Timestamps (count,) of a layout that keeps none."""
    return np.arange(count) / fps
