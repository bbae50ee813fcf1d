"""The pinhole camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera of an image of `width` x `height`; pixel centres at half-integers."""

    fx: float
    """Focal length along x, in pixels."""
    fy: float
    """Focal length along y, in pixels."""
    cx: float
    """Principal point x; the middle of the image is `width / 2`."""
    cy: float
    """Principal point y; the middle of the image is `height / 2`."""
    width: int
    """Image width in pixels."""
    height: int
    """Image height in pixels."""

    @classmethod
    def centred(cls, focal: float, width: int, height: int) -> Intrinsics:
        """One focal length for both axes and the principal point in the middle of the image."""
        return cls(focal, focal, width / 2, height / 2, width, height)

    @property
    def matrix(self) -> FloatArray:
        """The 3x3 calibration matrix K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def pixel_centres(self) -> FloatArray:
        """Coordinates (x, y) of every pixel centre, shape (height, width, 2)."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        return np.stack([x, y], axis=-1)

    def unproject(self, pixels: FloatArray, depth: NDArray[np.floating]) -> FloatArray:
        """Points (..., 3) in camera coordinates seen at `pixels` (..., 2) with z-depth (...)."""
        z = np.asarray(depth, dtype=np.float64)
        x = (pixels[..., 0] - self.cx) / self.fx * z
        y = (pixels[..., 1] - self.cy) / self.fy * z
        return np.stack([x, y, z], axis=-1)

    def unproject_depth(self, depth: NDArray[np.floating]) -> FloatArray:
        """Points (height, width, 3) in camera coordinates of a whole z-depth map (height, width).

        Raises:
            ValueError: the depth map does not have the size of this camera's image.
        """
        if depth.shape != (self.height, self.width):
            raise ValueError(
                f"depth map is {depth.shape[1]}x{depth.shape[0]}, "
                f"the camera's image {self.width}x{self.height}"
            )
        return self.unproject(self.pixel_centres(), depth)

    def project(self, points: FloatArray) -> FloatArray:
        """Pixels (..., 2) of points (..., 3) in camera coordinates; meaningful where z > 0."""
        z = points[..., 2]
        return np.stack(
            [
                points[..., 0] / z * self.fx + self.cx,
                points[..., 1] / z * self.fy + self.cy,
            ],
            axis=-1,
        )

    def contains(self, pixels: FloatArray) -> NDArray[np.bool_]:
        """Whether `pixels` (..., 2) lie inside the image, shape (...)."""
        x, y = pixels[..., 0], pixels[..., 1]
        return (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
