"""Pictures of a lens that bends straight lines, made those of a pinhole camera."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray

_FOLD = -0.14  # radial * r^2 of the farthest corner; at -4/27 its ray ceases to exist


@dataclass(frozen=True)
class Undistortion:
    """The way from the pictures of a lens with one radial coefficient to those of a pinhole.

    The lens shows the ray (x, y, 1) where a pinhole shows (x, y, 1 / (1 + radial * r^2)) with
    r^2 = x^2 + y^2. That is COLMAP's SIMPLE_RADIAL: Brown, "Decentering distortion of lenses", 1966,
    cut after its first radial term. All pixels have their centres at half-integers.
    """

    lens: Intrinsics
    """The camera that took the pictures, but for its distortion."""
    radial: float
    """Its coefficient: negative for a barrel, positive for a cushion, 0 for a pinhole."""
    camera: Intrinsics
    """The pinhole camera of the made pictures."""

    @classmethod
    def without_blanks(cls, lens: Intrinsics, radial: float) -> Undistortion:
        """Made pictures that keep their size and principal point, and show nothing but picture.

        Their focal length is the smallest at which no pixel comes from outside the lens' picture.

        Raises:
            ValueError: no ray is shown in the picture's corners: there r * (1 + radial * r^2), which
                for a barrel has a greatest value, cannot reach so far.
        """
        plain = cls(lens, radial, lens)
        if radial * (_rays(_corners(lens), lens) ** 2).sum(axis=1).max() < _FOLD:
            raise ValueError(
                f"a radial coefficient of {radial:.3g} leaves the corners without rays"
            )
        left, top, right, bottom = _inner_box(plain.pixels(_border(lens)).reshape(4, -1, 2))
        zoom = max(
            lens.cx / (lens.cx - left),
            lens.cy / (lens.cy - top),
            (lens.width - lens.cx) / (right - lens.cx),
            (lens.height - lens.cy) / (bottom - lens.cy),
        )
        size = lens.width, lens.height
        camera = Intrinsics(zoom * lens.fx, zoom * lens.fy, lens.cx, lens.cy, *size)
        return cls(lens, radial, camera)

    @property
    def displacement(self) -> float:
        """How far the lens bends the farthest corner of the picture, in its pixels."""
        corners = _corners(self.lens)
        return float(np.linalg.norm(_bend(corners, self.lens, self) - corners, axis=1).max())

    def picture(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (H, W) or (H, W, 3) of the lens as the pinhole shows it, bilinear."""
        source = (self.bent(self.camera.pixel_centres()) - 0.5).astype(np.float32)
        edge = cv2.BORDER_REPLICATE
        return np.asarray(cv2.remap(picture, source, None, cv2.INTER_LINEAR, borderMode=edge))

    def map(self, values: NDArray[np.float32], outside: float = 0.0) -> NDArray[np.float32]:
        """A depth or confidence map (H, W) likewise, nearest, which never mixes two surfaces.

        The z-depth of a ray does not depend on where it is shown, so values stay as they are.
        """
        column, row = np.moveaxis(np.floor(self.bent(self.camera.pixel_centres())), -1, 0)
        inside = (column >= 0) & (column < self.lens.width) & (row >= 0) & (row < self.lens.height)
        made = np.full(inside.shape, outside, values.dtype)
        made[inside] = values[row[inside].astype(np.int64), column[inside].astype(np.int64)]
        return made

    def pixels(self, pixels: FloatArray) -> FloatArray:
        """Where the pinhole shows what the lens shows at `pixels` (M, 2)."""
        lens = self.lens
        curved = pycolmap.Camera(
            model="OPENCV",
            width=lens.width,
            height=lens.height,
            params=[lens.fx, lens.fy, lens.cx, lens.cy, self.radial, 0.0, 0.0, 0.0],
        )
        x, y = np.asarray(curved.cam_from_img(pixels)).reshape(-1, 2).T
        return self.camera.project(np.stack([x, y, np.ones_like(x)], axis=-1))

    def bent(self, pixels: FloatArray) -> FloatArray:
        """The inverse of `pixels`: where the lens shows what the pinhole shows at (..., 2)."""
        return _bend(pixels, self.camera, self)

    def through(self, transform: ImageTransform) -> Undistortion:
        """The same for pictures resized or cropped, such as the network's depth maps."""
        lens, camera = transform.intrinsics(self.lens), transform.intrinsics(self.camera)
        return Undistortion(lens, self.radial, camera)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready record; floats survive exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Undistortion:
        """The inverse of `to_json`."""
        return cls(Intrinsics(**record["lens"]), record["radial"], Intrinsics(**record["camera"]))


def _rays(pixels: FloatArray, camera: Intrinsics) -> FloatArray:
    """Directions (x, y) of pixels (..., 2) at z = 1."""
    return camera.unproject(pixels, np.ones(pixels.shape[:-1]))[..., :2]


def _bend(pixels: FloatArray, pinhole: Intrinsics, way: Undistortion) -> FloatArray:
    rays = _rays(pixels, pinhole)
    rays = rays * (1 + way.radial * (rays**2).sum(axis=-1, keepdims=True))
    return rays * [way.lens.fx, way.lens.fy] + [way.lens.cx, way.lens.cy]


def _corners(camera: Intrinsics) -> FloatArray:
    return np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]) * [
        camera.width,
        camera.height,
    ]


def _border(camera: Intrinsics) -> FloatArray:
    """Points along the left, top, right and bottom edge of the picture, 65 each, (260, 2)."""
    along = np.linspace(0.0, 1.0, 65)
    zero, one = np.zeros_like(along), np.ones_like(along)
    edges = [(zero, along), (along, zero), (one, along), (along, one)]
    return np.concatenate([np.stack(edge, axis=-1) for edge in edges]) * [
        camera.width,
        camera.height,
    ]


def _inner_box(edges: FloatArray) -> FloatArray:
    """The largest upright box (left, top, right, bottom) between four curved edges (4, n, 2)."""
    left, top, right, bottom = edges
    return np.array(
        [left[:, 0].max(), top[:, 1].max(), right[:, 0].min(), bottom[:, 1].min()], np.float64
    )
