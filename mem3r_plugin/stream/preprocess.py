"""From an upright picture to what the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.geometry.image_transform import Size
from mem3r_plugin.model.config import PATCH, NetworkConfig

_FEWEST = 0.8
"""Share of the patches of a 4:3 picture that others must have with `same_area`."""


@dataclass(frozen=True)
class Preprocessor:
    """Resizes and crops a picture to a multiple of the patch size, and records how.

    The scheme is CUT3R's: the long side becomes `size`, the picture keeps its shape, and its middle
    is cut to whole patches. With `same_area` all pictures get about as many patches instead, in the
    shape that shows most of them: a wide one keeps its detail.
    """

    size: int = 512
    """Long side of the network's picture (short side with `square_crop`; with `same_area` long side of a
    4:3 picture), in pixels."""
    patch: int = PATCH
    """Side of the network's patches in pixels."""
    square_ok: bool = False
    """Keep square pictures square; CUT3R was not trained on them and gets them cut to 4:3."""
    square_crop: bool = False
    """Cut every picture to a square of `size`, as the 224-pixel linear-head CUT3R expects."""
    same_area: bool = False
    """Give pictures of every shape the patches of a 4:3 one, or up to a fifth less."""

    @classmethod
    def of(cls, network: NetworkConfig, size: int | None = None) -> Preprocessor:
        """What a network was trained to see, or the same at another `size`."""
        return cls(size or network.picture_size, same_area=network.same_area)

    def __post_init__(self) -> None:
        if self.size < self.patch or self.size % self.patch:
            raise ConfigError(
                f"size is {self.size}, it must be a multiple of {self.patch}: "
                f"for example {max(self.patch, round(self.size / self.patch) * self.patch)}"
            )

    def transform(self, size: Size) -> ImageTransform:
        """The record for an upright picture of `size` = (width, height).

        Raises:
            SourceError: the picture is so narrow that less than a patch would be left of it.
        """
        resized, box = self._plan(size)
        if min(box[2:]) < self.patch:
            raise SourceError(
                f"a picture of {size[0]}x{size[1]} becomes {resized[0]}x{resized[1]} at size "
                f"{self.size}, narrower than a patch of {self.patch}: use a larger size"
            )
        return ImageTransform.identity(size).resized(*resized).cropped(*box)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ImageTransform]:
        """The network's picture (h, w, 3), RGB uint8, and the record that leads to it.

        Args:
            image: upright RGB picture, shape (height, width, 3).
        """
        height, width = image.shape[:2]
        transform = self.transform((width, height))
        resized, (left, top, box_width, box_height) = self._plan((width, height))
        shrinks = max(resized) < max(width, height)
        resample = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
        made = np.asarray(Image.fromarray(image).resize(resized, resample))
        return made[top : top + box_height, left : left + box_width], transform

    def _plan(self, size: Size) -> tuple[Size, tuple[int, int, int, int]]:
        """Size after resizing, and the box (left, top, width, height) cut out of it."""
        long = max(size)
        if self.square_crop:
            scaled_long = round(self.size * long / min(size))
            width, height = (self.size if side == min(size) else scaled_long for side in size)
            box_width = box_height = self.size
        elif self.same_area:
            most = prod(four_by_three(self.size, self.patch)) // self.patch**2
            box_width, box_height = (self.patch * side for side in _fullest_grid(size, most))
            scale = max(box_width / size[0], box_height / size[1])
            width, height = (round(scale * side) for side in size)
        else:
            width, height = (round(side * self.size / long) for side in size)
            box_width, box_height = self._whole(width), self._whole(height)
            if box_width == box_height and not self.square_ok:
                box_width, box_height = four_by_three(box_width, self.patch)
        left, top = width // 2 - box_width // 2, height // 2 - box_height // 2
        return (width, height), (left, top, box_width, box_height)

    def _whole(self, side: int) -> int:
        """The longest whole number of patches, centred on the middle pixel, in `side` pixels."""
        return side // 2 * 2 // self.patch * self.patch


def four_by_three(width: int, patch: int = PATCH) -> Size:
    """Width and height of a 4:3 picture, or as nearly one as whole patches make."""
    return width, max(patch, width * 3 // 4 // patch * patch)


@lru_cache(maxsize=64)
def _fullest_grid(size: Size, most: int) -> Size:
    """Columns and rows of the grid that shows most of a picture when it covers no more than that.

    Args:
        size: width and height of the picture.
        most: patches of the grid at most; it has at least four fifths of them.
    """
    grids = [
        (columns, rows)
        for columns in range(1, most + 1)
        for rows in range(1, most // columns + 1)
        if columns * rows >= _FEWEST * most
    ]

    def shown(grid: Size) -> tuple[float, int]:
        stretch = size[0] * grid[1] / (size[1] * grid[0])
        return min(stretch, 1 / stretch), grid[0] * grid[1]

    return max(grids, key=shown)


def to_network_input(image: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures (..., h, w, 3), RGB uint8, as float32 (..., 3, h, w) in [-1, 1]."""
    return centred(torch.tensor(image))


def centred(pictures: torch.Tensor) -> torch.Tensor:
    """`to_network_input` of pictures that are tensors, wherever they are."""
    values = pictures.movedim(-1, -3).contiguous().to(torch.float32)
    return (values / 255.0 - 0.5) / 0.5
