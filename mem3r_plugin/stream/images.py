"""Pictures on disk: reading one, and a folder or glob of them as a source."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from mem3r_plugin.errors import FrameSkipped, SourceError
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.source import IMAGE_SUFFIXES, Selection, SkippedFrame, Source


class ImageSource(Source):
    """An image folder, a glob of images, or one image, in natural order: 9.jpg precedes 10.jpg.

    Raises:
        SourceError: nothing is there, or nothing of it is a picture.
    """

    kind = "images"

    def __init__(self, path: Path, selection: Selection) -> None:
        selection.require_no_clock("an image folder")
        super().__init__(selection)
        self._path = path.absolute()
        self._files = list_images(self._path)
        self._names = _unique_names(self._files)

    def describe(self) -> dict[str, Any]:
        """Kind and path of the folder, the glob or the image."""
        return {"kind": self.kind, "path": str(self._path)}

    @property
    def expected_frames(self) -> int:
        """Exact, but for frames that will be skipped."""
        selected = -(-len(self._files) // self.selection.stride)
        return min(selected, self.selection.max_frames or selected)

    def _candidates(self) -> Iterator[Frame | SkippedFrame]:
        for position in range(0, len(self._files), self.selection.stride):
            path, name = self._files[position], self._names[position]
            try:
                image = read_image(path)
            except FrameSkipped as error:
                yield SkippedFrame(position, name, str(error))
            else:
                yield Frame(0, name, float(position), image, path, position)


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture as it is meant to be seen: upright, 8-bit RGB, shape (height, width, 3).

    EXIF rotation and mirroring are applied, 16-bit grey keeps its upper 8 bits, palettes are
    looked up, and an alpha channel is dropped.

    Raises:
        FrameSkipped: the file cannot be decoded to its end.
    """
    try:
        with Image.open(path) as stored:
            picture = ImageOps.exif_transpose(stored)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise FrameSkipped(f"cannot be decoded ({error})") from error
    if picture.mode == "F":
        raise FrameSkipped("holds floating-point values, not a picture")
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.asarray(picture.convert("RGB"))


def is_stored_upright(path: Path) -> bool:
    """Whether a viewer that ignores EXIF rotation shows the file the right way up."""
    with Image.open(path) as stored:
        return stored.getexif().get(ExifTags.Base.Orientation, 1) == 1


def list_images(path: Path) -> list[Path]:
    """Picture files of a folder, a glob or one path, in natural order; hidden files are left out.

    Raises:
        SourceError: nothing is there, or nothing of it is a picture.
    """
    if path.is_dir():
        found = list(path.iterdir())
    elif path.exists():
        found = [path]
    else:
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        if not found:
            raise SourceError(f"{path} does not exist: give a video, an image folder or a glob")
    images = [
        file
        for file in found
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not file.name.startswith(".")
        and file.is_file()
    ]
    if not images:
        raise SourceError(f"no picture in {path}: looked for {', '.join(IMAGE_SUFFIXES)}")
    return sorted(images, key=natural_key)


def natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that compares the numbers inside a path as numbers."""
    pieces = re.findall(r"\d+|\D+", str(path))
    return [(int(p), "") if p.isdecimal() else (-1, p.lower()) for p in pieces], str(path)


def _unique_names(files: list[Path]) -> list[str]:
    """File names; with their folders, joined by `_`, where a glob found one name twice."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    return ["_".join(file.parts[1:]) for file in files]
