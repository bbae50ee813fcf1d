"""Masks of what the user does not want in a scan."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import FrameSkipped, SourceError
from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.images import list_images, read_image

_log = logging.getLogger(__name__)


class MaskFolder:
    """A folder with one mask picture a frame; black (0) is ignored, anything else is kept.

    As in COLMAP and nerfstudio. The mask of `IMG_12.jpg` is called `IMG_12.jpg.png`, or `IMG_12`
    with the suffix of any picture; the mask of a video's frame 12 `frame_000012.png`. A frame
    without a mask is kept whole.

    Raises:
        SourceError: the folder is missing or has no picture in it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise SourceError(
                f"{path} is no folder: masks are a folder of pictures named as frames"
            )
        self._path = path
        self._files = {file.stem: file for file in list_images(path)}
        self.missing = 0
        """How many frames asked for so far had no mask."""

    def keep(self, frame: Frame, transform: ImageTransform) -> NDArray[np.bool_] | None:
        """Which pixels of the network's picture (h, w) to keep; None where there is no mask.

        Raises:
            SourceError: the mask cannot be read, or is not of the frame's size.
        """
        file = self._files.get(frame.name) or self._files.get(Path(frame.name).stem)
        if file is None:
            if not self.missing:
                _log.warning("no mask for %s in %s: it is kept whole", frame.name, self._path)
            self.missing += 1
            return None
        try:
            mask = np.any(read_image(file), axis=-1)
        except FrameSkipped as error:
            raise SourceError(f"the mask {file} {error}") from error
        if mask.shape != frame.image.shape[:2]:
            raise SourceError(
                f"the mask {file} is {mask.shape[1]}x{mask.shape[0]}, "
                f"its frame {frame.image.shape[1]}x{frame.image.shape[0]}"
            )
        return transform.sample(mask)
