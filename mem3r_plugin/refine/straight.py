"""A scan as if a pinhole camera had taken its pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.refine.undistort import Undistortion
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import ScanGeometry


class StraightScan(Scan):
    """A view of a scan whose pictures, depth and confidence are undistorted as they are read.

    Nothing is written. Its camera is the pinhole that the undistortion makes.
    """

    def __init__(self, scan: Scan, undistortion: Undistortion) -> None:
        geometry = ScanGeometry(scan.depth_unit, undistortion.camera, scan.transform)
        header = replace(scan.header, geometry=geometry)
        super().__init__(scan.path, header, geometry, scan.frames)
        self._pictures = undistortion
        self._maps = undistortion.through(scan.transform)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The undistorted picture of a frame, RGB, shape (H, W, 3)."""
        return self._pictures.picture(super().image(index))

    def image_file(self, index: int) -> Path | None:
        """None: no file holds these pixels."""
        return None

    def depth(self, index: int) -> NDArray[np.float32]:
        """z-depth of a frame, shape (h, w) at network size; 0 = none."""
        return self._maps.map(super().depth(index))

    def confidence(self, index: int) -> NDArray[np.float32]:
        """Confidence of the depth, at least 1, shape (h, w) at network size; 1 where depth is 0."""
        return self._maps.map(super().confidence(index), outside=1.0)
