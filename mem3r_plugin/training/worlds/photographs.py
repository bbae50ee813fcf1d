"""Free photographs and photographic textures of Debian packages, cut to squares for `TexturePool`.

They are fetched when somebody wants them and belong to no release of this package.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mem3r_plugin.exports.files import new_folder
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.training.worlds.packages import LICENCES, licence, unpacked
from mem3r_plugin.training.worlds.textures import SIZE

PACKAGES = (
    "sweethome3d:*/textures/*",
    "lomiri-wallpapers-16.04",
    "openarena-081-textures",
)
"""Floors and walls of homes; photographs of landscapes and things; walls, floors and signs of a game. 127 MB;
after a colon the files to take."""
_INSTEAD = "name a folder of pictures of your own as data.textures instead"
_SUFFIXES = {".jpg", ".jpeg", ".tga"}
"""What photographs are kept in; drawings mostly come as PNG, SVG or WebP."""
_ARCHIVES = {".jar", ".pk3", ".zip"}
_PHOTOGRAPH = 3 * SIZE
"""Pictures whose shorter side is longer than this hold several textures."""
_CUTS = 12
"""Squares cut from a photograph."""
_BRIGHTNESS = (0.12, 0.9)
"""Mean grey value of what can be told apart in a lit world."""
_CONTRAST = 0.05
"""Least standard deviation of grey values."""
_DETAIL = 0.008
"""Least mean difference of grey values of neighbouring texels."""


@dataclass(frozen=True)
class _Cut:
    """A texture and where it is from."""

    pixels: NDArray[np.uint8]
    """RGB, (SIZE, SIZE, 3)."""
    source: str
    """File inside the package."""


def fetch_textures(
    folder: Path,
    packages: tuple[str, ...] = PACKAGES,
    count: int = 200,
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
) -> int:
    """Fills a folder with textures, about equally many of each package, the same ones every time.

    Args:
        folder: gets `PACKAGE-000.jpg` and so on, and `LICENCES.txt`.
        packages: Debian packages with pictures, also inside zip archives (.jar, .pk3); `NAME:PATTERN` takes
            the files whose path matches a shell pattern only.
        count: at most how many textures.
        overwrite: replace an earlier folder of textures.
        progress: is told which package is being fetched.

    Returns:
        how many textures there are.

    Raises:
        SourceError: apt-get is missing, a package cannot be had, or names no licence.
        OutputError: the folder is in use or cannot be written.
    """
    licences = []
    total = 0
    with new_folder(folder, overwrite, LICENCES) as fresh:
        for index, wanted in enumerate(packages):
            progress("fetching photographs", index, len(packages))
            package, _, pattern = wanted.partition(":")
            share = (count - total) // (len(packages) - index)
            with tempfile.TemporaryDirectory() as workplace:
                content = unpacked(package, Path(workplace), _INSTEAD)
                cuts = _chosen(content, pattern or "*", share)
                sources = _write(fresh, package, cuts)
                licences.append(_licence(package, content, sources))
            total += len(cuts)
        (fresh / LICENCES).write_text("\n\n".join(licences), encoding="utf-8")
    return total


def _chosen(content: Path, pattern: str, share: int) -> list[_Cut]:
    """Up to `share` textures, taken in turn from pictures in a random but fixed order."""
    rng = np.random.default_rng(0)
    sources = [each for each in _pictures(content) if fnmatch(each[0], pattern)]
    cuts: list[list[_Cut]] = []
    for place in rng.permutation(len(sources)):
        name, image = sources[place]
        if good := [cut for cut in _cuts(name, image, rng) if _worth_seeing(cut.pixels)]:
            cuts.append(good)
        if sum(map(len, cuts)) >= share and len(cuts) >= share:
            break
    turns = [(turn, cut) for found in cuts for turn, cut in enumerate(found)]
    turns.sort(key=lambda each: each[0])
    return [cut for _, cut in turns[:share]]


def _pictures(content: Path) -> Iterator[tuple[str, Path | bytes]]:
    """Names and places, or contents, of the pictures of an unpacked package."""
    for file in sorted(content.rglob("*")):
        name = file.relative_to(content).as_posix()
        if file.is_symlink() or not file.is_file():
            continue
        if file.suffix.lower() in _ARCHIVES:
            with zipfile.ZipFile(file) as archive:
                for member in sorted(archive.namelist()):
                    if Path(member).suffix.lower() in _SUFFIXES:
                        yield f"{name}/{member}", archive.read(member)
        elif file.suffix.lower() in _SUFFIXES:
            yield name, file


def _cuts(name: str, picture: Path | bytes, rng: np.random.Generator) -> Iterator[_Cut]:
    """The whole of a small picture, squares of various sizes of a large one."""
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            if min(image.size) < SIZE // 2 or max(image.size) > 2 * min(image.size):
                return
            whole = image.convert("RGB")
    except OSError:
        return  # one file of hundreds that nobody asked for by name
    width, height = whole.size
    boxes: list[tuple[float, float, float, float]] = [(0, 0, width, height)]
    if min(whole.size) > _PHOTOGRAPH:
        sides = np.exp(rng.uniform(np.log(1.5 * SIZE), np.log(min(whole.size)), _CUTS)).astype(int)
        lefts, tops = rng.integers(width - sides + 1), rng.integers(height - sides + 1)
        corners = zip(lefts.tolist(), tops.tolist(), sides.tolist(), strict=True)
        boxes = [(left, top, left + side, top + side) for left, top, side in corners]
    for box in boxes:
        square = whole.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box)
        yield _Cut(np.asarray(square), name)


def _worth_seeing(pixels: NDArray[np.uint8]) -> bool:
    """Whether a texture is neither dark, burnt out, uniform nor a gradient."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) / np.float32(255)
    detail = 0.5 * (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
    return bool(
        _BRIGHTNESS[0] < grey.mean() < _BRIGHTNESS[1]
        and grey.std() > _CONTRAST
        and detail > _DETAIL
    )


def _write(folder: Path, package: str, cuts: list[_Cut]) -> list[str]:
    """Writes the textures and tells the source of each."""
    lines = []
    for index, cut in enumerate(cuts):
        name = f"{package}-{index:03d}.jpg"
        Image.fromarray(cut.pixels).save(folder / name, quality=95)
        lines.append(f"{name}: cut from {cut.source}")
    return lines


def _licence(package: str, content: Path, sources: list[str]) -> str:
    head = (
        f"Debian package {package}: {len(sources)} textures, cut and resized. Its copyright file:"
    )
    return "\n".join([head, "", licence(package, content), *sources])
