"""Points followed from one picture to the next."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_WINDOW = (21, 21)
_LEVELS = 3
_RETURN = 1.0  # pixels by which a point may miss its start when it is followed back


def follow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Follow points from one grey picture into another by pyramidal Lucas-Kanade, there and back.

    Args:
        first: Grey picture, shape (h, w).
        second: The next picture, shape (h, w).
        points: (n, 2) in `first`, as OpenCV counts them: pixel centres at integers.

    Returns:
        The points in `second`, shape (n, 2), and which of them came back to where they began, (n,).
    """
    if not len(points):
        return points, np.zeros(0, bool)
    start = np.ascontiguousarray(points, np.float32)
    there, found = _flow(first, second, start)
    back, returned = _flow(second, first, there)
    height, width = second.shape
    inside = (there >= 0).all(axis=1) & (there <= [width - 1, height - 1]).all(axis=1)
    close = np.linalg.norm(back - start, axis=1) < _RETURN
    return there, inside & close & found & returned


def _flow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first,
        second,
        points,
        None,
        winSize=_WINDOW,
        maxLevel=_LEVELS,
    )
    return there, found[:, 0] == 1
