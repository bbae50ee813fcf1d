"""Depth, confidence and masks on the grid of the original pictures, as nerfstudio reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import encode_confidence, encode_depth
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.masks import MaskFolder

DEPTH_UNIT = 1e-3
"""`depth_unit_scale_factor` of nerfstudio's dataparsers, in units of length; a file cannot say another."""


class MapWriter(Protocol):
    """Writes the map of one frame of a scan; `suffix` is that of its files."""

    suffix: str

    def __call__(self, scan: Scan, index: int, file: Path) -> None:
        """Write the map of frame `index`."""
        ...


class DepthWriter:
    """z-depth in thousandths of the scan's unit, 0 where there is none.

    16-bit PNG where that is just how the scan stores its depth. Anywhere else PNG would round near
    depths or cut off far ones, so that float32 arrays (`.npy`) hold the thousandths.
    """

    def __init__(self, scan: Scan) -> None:
        self._exact = scan.depth_unit == DEPTH_UNIT
        self.suffix = ".png" if self._exact else ".npy"

    def __call__(self, scan: Scan, index: int, file: Path) -> None:
        """Write the depth of frame `index`, nearest neighbour on the original grid."""
        depth = scan.original_depth(index)
        if self._exact:
            _write_png(file, encode_depth(depth, DEPTH_UNIT)[0])
        else:
            np.save(file, depth / np.float32(DEPTH_UNIT))


class ConfidenceWriter:
    """8-bit `round(255 * (1 - 1 / confidence))`, the code that scans use; 0 without depth."""

    suffix = ".png"

    def __call__(self, scan: Scan, index: int, file: Path) -> None:
        """Write the confidence of frame `index`, nearest neighbour on the original grid."""
        confidence = scan.transform.inverse.sample(scan.confidence(index), outside=1.0)
        _write_png(file, encode_confidence(confidence))


class MaskWriter:
    """The masks that the scan was made with: 0 is ignored, 255 kept; white for frames without one.

    Raises:
        SourceError: the folder of masks is gone, or a mask is damaged.
    """

    suffix = ".png"

    def __init__(self, folder: Path) -> None:
        self._masks = MaskFolder(folder)

    def __call__(self, scan: Scan, index: int, file: Path) -> None:
        """Write the mask of frame `index`, of the size of its picture."""
        width, height = scan.transform.source_size
        frame = scan.frames[index]
        blank = np.broadcast_to(np.uint8(0), (height, width, 3))
        keep = self._masks.keep(
            Frame(index, frame.name, frame.timestamp, blank),
            ImageTransform.identity((width, height)),
        )
        mask = np.full((height, width), 255, np.uint8) if keep is None else keep * np.uint8(255)
        _write_png(file, mask)


def map_writers(scan: Scan, depth: bool) -> dict[str, MapWriter]:
    """What belongs to every frame beside its picture, by the name of its folder."""
    writers: dict[str, MapWriter] = {}
    if depth:
        writers |= {"depths": DepthWriter(scan), "confidences": ConfidenceWriter()}
    masks = scan.header.settings.get("masks")
    if masks is not None:
        writers["masks"] = MaskWriter(Path(masks))
    return writers


def _write_png(file: Path, values: NDArray[np.unsignedinteger]) -> None:
    # Not cv2.imwrite, which tells nobody that the disk is full.
    file.write_bytes(cv2.imencode(".png", np.ascontiguousarray(values))[1].tobytes())
