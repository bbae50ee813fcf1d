"""COLMAP's model files, read byte by byte as 3DGS and gsplat's examples read them.

https://colmap.github.io/format.html. Reading them here first also keeps a damaged file away from
pycolmap, which ends the process over some of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_check.reading import Unreadable
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix, rotation_from_quaternion

_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE")
"""Camera models by their number; later ones are read by few programs."""
_PARAMETERS = dict(zip(_MODELS, (3, 4, 4, 5, 8, 8), strict=True))

_POINT2D = np.dtype([("pixel", "<f8", 2), ("point", "<i8")])


@dataclass(frozen=True)
class ColmapCamera:
    """One line of `cameras`."""

    model: str
    """COLMAP's name of the camera model."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    parameters: tuple[float, ...]
    """Focal lengths, principal point, distortion."""

    @property
    def focal_lengths(self) -> tuple[float, float]:
        """Along x and y."""
        shared = self.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
        return self.parameters[0], self.parameters[0 if shared else 1]

    @property
    def principal_point(self) -> tuple[float, float]:
        """Its x and y."""
        first = 1 if self.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL") else 2
        return self.parameters[first], self.parameters[first + 1]


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """Two lines of `images`."""

    name: str
    """Of the file."""
    camera: int
    """Id of its camera."""
    camera_to_world: FloatArray
    """Shape (4, 4); the file has the inverse."""
    pixels: FloatArray
    """Features, shape (M, 2)."""
    points: NDArray[np.int64]
    """Id of the point that each shows, -1: none, shape (M,)."""


@dataclass(frozen=True, eq=False)
class ColmapFiles:
    """A whole model."""

    cameras: dict[int, ColmapCamera]
    """By id."""
    images: dict[int, ColmapImage]
    """By id, in rising order."""
    point_ids: NDArray[np.int64]
    """Rising, shape (N,)."""
    points: FloatArray
    """World coordinates, shape (N, 3)."""
    colours: NDArray[np.uint8]
    """RGB, shape (N, 3)."""


def read_colmap_files(folder: Path) -> ColmapFiles:
    """Read the model in a folder, binary where it is there, else text.

    Raises:
        Unreadable: a file is missing, cut off, too long, or speaks of what is not there.
    """
    binary = (folder / "images.bin").exists() or not (folder / "images.txt").exists()
    suffix = "bin" if binary else "txt"
    files = tuple(folder / f"{name}.{suffix}" for name in ("cameras", "images", "points3D"))
    return _read_all(files, tuple(map(_stamp, files)))


@lru_cache(maxsize=1)  # several programs read the same files
def _read_all(files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> ColmapFiles:
    readers = _BINARY if files[0].suffix == ".bin" else _TEXT
    cameras, images, (ids, points, colours) = map(_read, files, readers)
    if not images:
        raise Unreadable(f"{files[1].name} holds no picture")
    order = np.argsort(ids)
    model = ColmapFiles(
        cameras, dict(sorted(images.items())), ids[order], points[order], colours[order]
    )
    _check_references(model)
    return model


def _stamp(file: Path) -> tuple[int, int]:
    """What tells that a file has changed.

    Raises:
        Unreadable: it is missing.
    """
    try:
        status = file.stat()
    except FileNotFoundError:
        raise Unreadable(f"{file.name} is missing") from None
    return status.st_mtime_ns, status.st_size


def _read(file: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(file)
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise Unreadable(f"{file.name} is cut off or damaged: {error}") from error


def _check_references(model: ColmapFiles) -> None:
    names = {image.name for image in model.images.values()}
    if len(names) < len(model.images):
        raise Unreadable("two images have the same name")
    for image in model.images.values():
        if image.camera not in model.cameras:
            raise Unreadable(f"image {image.name} has camera {image.camera}, which does not exist")
        seen = image.points[image.points >= 0]
        if not np.isin(seen, model.point_ids).all():
            raise Unreadable(f"image {image.name} sees points that points3D does not have")


def _camera_to_world(quaternion: tuple[float, ...], translation: tuple[float, ...]) -> FloatArray:
    return invert_pose(pose_matrix(rotation_from_quaternion(quaternion), translation))


# -- binary --------------------------------------------------------------------------------------


class _Bytes:
    """A file read from its start to just its end."""

    def __init__(self, file: Path) -> None:
        self._data = file.read_bytes()
        self._at = 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from("<" + layout, self._data, self._at)
        self._at += struct.calcsize("<" + layout)
        return values

    def array(self, dtype: np.dtype, count: int) -> NDArray[np.void]:
        values = np.frombuffer(self._data, dtype, count, self._at)
        self._at += values.nbytes
        return values

    def text(self) -> str:
        end = self._data.index(b"\0", self._at)
        value = self._data[self._at : end].decode()
        self._at = end + 1
        return value

    def items(self) -> Iterator[int]:
        (count,) = self.take("Q")
        yield from range(count)
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes too many")


def _binary_cameras(file: Path) -> dict[int, ColmapCamera]:
    data, cameras = _Bytes(file), {}
    for _ in data.items():
        number, model, width, height = data.take("iiQQ")
        if not 0 <= model < len(_MODELS):
            raise ValueError(f"camera model {model} is not known here")
        name = _MODELS[model]
        cameras[number] = ColmapCamera(name, width, height, data.take(f"{_PARAMETERS[name]}d"))
    return cameras


def _binary_images(file: Path) -> dict[int, ColmapImage]:
    data, images = _Bytes(file), {}
    for _ in data.items():
        number, *pose, camera = data.take("i7di")
        name = data.text()
        seen = data.array(_POINT2D, data.take("Q")[0])
        camera_to_world = _camera_to_world(tuple(pose[:4]), tuple(pose[4:]))
        images[number] = ColmapImage(name, camera, camera_to_world, seen["pixel"], seen["point"])
    return images


def _binary_points(file: Path) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.uint8]]:
    data, points = _Bytes(file), []
    for _ in data.items():
        *point, _, length = data.take("Q3d3BdQ")
        data.take(f"{2 * length}i")
        points.append(point)
    return _points(points)


def _points(rows: list) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.uint8]]:
    table = np.array(rows, np.float64).reshape(-1, 7)
    return table[:, 0].astype(np.int64), table[:, 1:4], table[:, 4:].astype(np.uint8)


# -- text ----------------------------------------------------------------------------------------


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


def _text_cameras(file: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for line in filter(str.strip, _lines(file)):
        number, model, width, height, *parameters = line.split()
        if len(parameters) != _PARAMETERS[model]:
            raise ValueError(f"{model} with {len(parameters)} parameters")
        values = tuple(map(float, parameters))
        cameras[int(number)] = ColmapCamera(model, int(width), int(height), values)
    return cameras


def _text_images(file: Path) -> dict[int, ColmapImage]:
    lines, images = _lines(file), {}
    if len(lines) % 2:
        lines.append("")  # the last picture may see nothing
    for head, tail in zip(lines[::2], lines[1::2], strict=True):
        number, *pose, camera, name = head.split()
        values = tuple(map(float, pose))
        if len(values) != 7:
            raise ValueError(f"a pose of {len(values)} numbers")
        seen = np.array(tail.split(), np.float64).reshape(-1, 3)
        images[int(number)] = ColmapImage(
            name,
            int(camera),
            _camera_to_world(values[:4], values[4:]),
            seen[:, :2],
            seen[:, 2].astype(np.int64),
        )
    return images


def _text_points(file: Path) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.uint8]]:
    return _points([line.split()[:7] for line in filter(str.strip, _lines(file))])


_BINARY: tuple[Callable[[Path], Any], ...] = (_binary_cameras, _binary_images, _binary_points)
_TEXT: tuple[Callable[[Path], Any], ...] = (_text_cameras, _text_images, _text_points)
