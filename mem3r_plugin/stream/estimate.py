"""What the front end takes in and gives out, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform, Intrinsics


@dataclass(frozen=True)
class Frame:
    """One upright picture of a source, before any resizing."""

    index: int
    """Position among the frames the source yields, from 0, without gaps."""
    name: str
    """Unique inside the source and usable as a file name with extension, e.g. `IMG_0012.jpg`."""
    timestamp: float
    """Seconds since the start of the source; the position where the source has no clock."""
    image: NDArray[np.uint8]
    """RGB, shape (height, width, 3), EXIF rotation already applied."""
    path: Path | None = None
    """The image file it was read from; None for videos, cameras and arrays."""
    position: int = 0
    """Where it lies in the source: frame number of a video, rank in a folder before any stride."""


@dataclass(frozen=True)
class FrameEstimate:
    """Camera and depth of one frame.

    World is the first camera of the scan; lengths are in the network's own unit. The frame's
    upright picture in its original pixels is `transform`'s source, the network's its target.
    """

    frame: Frame
    """The picture the estimate belongs to."""
    camera_to_world: NDArray[np.float64]
    """Pose, shape (4, 4), OpenCV axes."""
    depth: NDArray[np.float32]
    """z-depth at network size, shape (h, w); 0 where there is none (masked or not finite)."""
    confidence: NDArray[np.float32]
    """Confidence of the depth, at least 1, shape (h, w); 1 where depth is 0."""
    intrinsics: Intrinsics
    """The camera at network size: the best known so far of the one that all frames share (the final
    one is in `scan.json`), or the frame's own where each has its own."""
    transform: ImageTransform
    """From original pixels to network pixels."""
    focal: float
    """The focal length in network pixels that this frame suggests by itself."""
    feature: NDArray[np.float32] | None = None
    """What the picture looks like to the network, of unit length, shape (C,); finds it again."""

    @property
    def original_intrinsics(self) -> Intrinsics:
        """The same camera in original pixels."""
        return self.transform.inverse.intrinsics(self.intrinsics)
