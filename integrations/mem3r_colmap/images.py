"""The pictures of a COLMAP project: original resolution, upright, sorted names."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path, PurePath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mem3r_colmap.tracks import ObservedPoints
from mem3r_plugin.errors import ScanError
from mem3r_plugin.exports import sample_colours
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan

_ENCODINGS = {
    ".jpg": [
        cv2.IMWRITE_JPEG_QUALITY,
        95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ],
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3],
}
_ENCODINGS[".jpeg"] = _ENCODINGS[".jpg"]


def image_names(scan: Scan) -> list[str]:
    """One file name per frame, unique and without blanks, which COLMAP's text format cannot hold."""
    names = [re.sub(r"\s", "_", _file_name(scan, index)) for index in range(len(scan))]
    count = Counter(names)
    return [name if count[name] == 1 else f"{index:06d}_{name}" for index, name in enumerate(names)]


def write_images(
    scan: Scan,
    names: list[str],
    directory: Path,
    points: ObservedPoints,
    progress: ProgressCallback = no_progress,
) -> NDArray[np.uint8]:
    """Write every picture of a scan and read the colours of points, in one pass over the source.

    Files that already hold the upright pixels are copied as they are; other pictures are encoded as
    the suffix of their name says.

    Args:
        scan: Gives the pictures.
        names: Their file names.
        directory: Where to write them.
        points: What wants colours.
        progress: Is told how many pictures are written.

    Returns:
        RGB of the points, shape (N, 3).

    Raises:
        ScanError: a picture does not have the size of the scan's camera.
    """
    colours = np.zeros((len(points.positions), 3), np.uint8)
    for index, name in enumerate(names):
        rows = np.flatnonzero(points.frames == index)
        source = scan.image_file(index)
        image = scan.image(index) if source is None or rows.size else None
        if image is not None:
            colours[rows] = sample_colours(image, points.pixels[rows])
        if source is not None:
            shutil.copyfile(source, directory / name)
        elif image is not None:
            (directory / name).write_bytes(_encode(image, Path(name).suffix.lower()))
        _check_size(directory / name, scan.camera)
        progress("writing pictures", index + 1, len(names))
    return colours


def _file_name(scan: Scan, index: int) -> str:
    """The frame's own name with a suffix that tells what the exported file holds."""
    name = PurePath(scan.frames[index].name)
    source = scan.image_file(index)
    if source is not None:
        return name.with_suffix(source.suffix).name
    return name.name if name.suffix.lower() in _ENCODINGS else f"{name.name}.png"


def _encode(image: NDArray[np.uint8], suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODINGS[suffix])
    assert done
    return data.tobytes()


def _check_size(file: Path, camera: Intrinsics) -> None:
    with Image.open(file) as image:
        width, height = image.size
    if (width, height) != (camera.width, camera.height):
        raise ScanError(
            f"picture {file.name} is {width}x{height}, the scan's camera "
            f"{camera.width}x{camera.height}; was the source changed after the scan?"
        )
