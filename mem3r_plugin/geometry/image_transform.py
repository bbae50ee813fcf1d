"""One invertible record of everything that was done to an image's pixel grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry.camera import FloatArray, Intrinsics

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class ImageTransform:
    """An axis-aligned affine map from the pixels of a source image to those of a made one.

    Built step by step (`ImageTransform.identity(size).rotated(1).resized(w, h).cropped(...)`), it
    maps continuous pixel coordinates, whose pixel centres lie at half-integers, by
    ``target = matrix[:, :2] @ source + matrix[:, 2]``. Quarter turns, mirrors, scales and shifts
    keep it axis-aligned, so intrinsics stay intrinsics.
    """

    source_size: Size
    """Width and height of the image the record starts from."""
    target_size: Size
    """Width and height of the image it ends in."""
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    """The 2x3 affine map, source to target."""

    @classmethod
    def identity(cls, size: Size) -> ImageTransform:
        """The record of an untouched image of `size` = (width, height)."""
        return cls(size, size, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))

    # -- building --------------------------------------------------------------------------

    def then(self, matrix: FloatArray, target_size: Size) -> ImageTransform:
        """This record followed by a 2x3 affine map onto an image of `target_size`."""
        linear = matrix[:, :2] @ self._linear
        offset = matrix[:, :2] @ self._offset + matrix[:, 2]
        rows = np.column_stack([linear, offset]).tolist()
        return ImageTransform(self.source_size, target_size, (tuple(rows[0]), tuple(rows[1])))

    def rotated(self, quarter_turns: int) -> ImageTransform:
        """Turned clockwise by so many times 90 degrees, as `np.rot90(image, -quarter_turns)`."""
        record = self
        for _ in range(quarter_turns % 4):
            width, height = record.target_size
            turn = np.array([[0.0, -1.0, height], [1.0, 0.0, 0.0]])
            record = record.then(turn, (height, width))
        return record

    def mirrored(self) -> ImageTransform:
        """Flipped left to right, as `image[:, ::-1]`."""
        width, _ = self.target_size
        return self.then(np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0]]), self.target_size)

    def resized(self, width: int, height: int) -> ImageTransform:
        """Resampled to `width` x `height`; the image's outer edges map onto each other."""
        old_width, old_height = self.target_size
        scale = np.array([[width / old_width, 0.0, 0.0], [0.0, height / old_height, 0.0]])
        return self.then(scale, (width, height))

    def cropped(self, left: int, top: int, width: int, height: int) -> ImageTransform:
        """Cut to the box at (left, top); a box that reaches outside the image pads it."""
        shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])
        return self.then(shift, (width, height))

    def padded(self, left: int, top: int, right: int, bottom: int) -> ImageTransform:
        """Surrounded by that many pixels on each side."""
        width, height = self.target_size
        return self.cropped(-left, -top, width + left + right, height + top + bottom)

    @property
    def inverse(self) -> ImageTransform:
        """The record that leads back from the target image to the source image."""
        linear = np.linalg.inv(self._linear)
        rows = np.column_stack([linear, -linear @ self._offset]).tolist()
        return ImageTransform(self.target_size, self.source_size, (tuple(rows[0]), tuple(rows[1])))

    # -- using -----------------------------------------------------------------------------

    def pixels(self, pixels: FloatArray) -> FloatArray:
        """Source pixel coordinates (..., 2) brought to the target image."""
        return pixels @ self._linear.T + self._offset

    def intrinsics(self, intrinsics: Intrinsics) -> Intrinsics:
        """Intrinsics of the source image brought to the target image.

        After a quarter turn the camera is understood to have turned with its image, so that x stays
        right and y stays down in what is seen.
        """
        if (intrinsics.width, intrinsics.height) != self.source_size:
            raise ValueError(
                f"intrinsics are for {intrinsics.width}x{intrinsics.height}, "
                f"this transform starts from {self.source_size[0]}x{self.source_size[1]}"
            )
        fx, fy = np.abs(self._linear) @ (intrinsics.fx, intrinsics.fy)
        cx, cy = self.pixels(np.array([intrinsics.cx, intrinsics.cy]))
        return Intrinsics(float(fx), float(fy), float(cx), float(cy), *self.target_size)

    def sample(self, values: NDArray[Any], outside: float = 0.0, dtype: Any = None) -> NDArray[Any]:
        """A source-sized map (height, width, ...) on the target's pixel grid, nearest neighbour.

        Nearest is right for depth, confidence and masks: it never mixes the two sides of an edge.
        Target pixels that come from outside the source get the value `outside`.
        """
        width, height = self.target_size
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        source = np.floor(self.inverse.pixels(np.stack([x, y], axis=-1))).astype(np.int64)
        columns, rows = source[..., 0], source[..., 1]
        source_width, source_height = self.source_size
        inside = (columns >= 0) & (columns < source_width) & (rows >= 0) & (rows < source_height)
        result = np.full((height, width, *values.shape[2:]), outside, dtype=dtype or values.dtype)
        result[inside] = values[rows[inside], columns[inside]]
        return result

    # -- storing ---------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready record; floats survive exactly."""
        return {
            "source_size": list(self.source_size),
            "target_size": list(self.target_size),
            "matrix": [list(row) for row in self.matrix],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ImageTransform:
        """The inverse of `to_json`."""
        first, second = (tuple(float(v) for v in row) for row in record["matrix"])
        source, target = record["source_size"], record["target_size"]
        return cls(
            (int(source[0]), int(source[1])),
            (int(target[0]), int(target[1])),
            ((first[0], first[1], first[2]), (second[0], second[1], second[2])),
        )

    @property
    def _linear(self) -> FloatArray:
        return np.array(self.matrix)[:, :2]

    @property
    def _offset(self) -> FloatArray:
        return np.array(self.matrix)[:, 2]
