"""Which frames carry the geometry: those that show something new and are not blurred."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.refine.tracking import follow

Grey = NDArray[np.uint8]

LONG_SIDE = 320
"""Keyframes are chosen on pictures reduced to this long side, in pixels."""

_MEMORY = 15  # frames that say what sharp means here
_MIN_CORNERS = 30


@dataclass(frozen=True)
class KeyframeConfig:
    """When a frame becomes a keyframe."""

    all_below: int = 100
    """Scans of fewer frames have keyframes only: photo sets, and clips that cost little."""
    max_motion: float = 0.05
    """It does when corners have moved by this share of the picture's diagonal, in the median."""
    min_tracked: float = 0.6
    """It does when less than this share of the last keyframe's corners is still seen."""
    min_gap: int = 1
    """Frames from one keyframe to the next at least: the cap on their rate."""
    max_gap: int = 30
    """Frames from one keyframe to the next at most."""
    blurred: float = 0.5
    """A frame below this share of the usual sharpness is passed over while the next may do."""


def sharpness(grey: Grey) -> float:
    """Variance of the Laplacian of a picture (h, w); low where it is blurred or empty."""
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def reduced(grey: Grey, long_side: int = LONG_SIDE) -> Grey:
    """The picture (h, w) at this long side; smaller ones as they are."""
    factor = long_side / max(grey.shape)
    if factor >= 1:
        return grey
    return np.asarray(cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


class KeyframeSelector:
    """Chooses keyframes on line from what the pictures themselves show of motion and overlap.

    Corners of the last keyframe are followed from frame to frame. The network's poses are left out
    of it on purpose: where they are wrong, the choice must still be right.
    """

    def __init__(self, config: KeyframeConfig) -> None:
        self._config = config
        self._previous: Grey | None = None
        self._start = np.zeros((0, 2), np.float32)
        self._corners = np.zeros((0, 2), np.float32)
        self._since = 0
        self._sharpness: deque[float] = deque(maxlen=_MEMORY)

    def offer(self, grey: Grey) -> bool:
        """Whether the next frame, a reduced picture (h, w), becomes a keyframe."""
        score = sharpness(grey)
        usual = float(np.median(self._sharpness)) if self._sharpness else 0.0
        blurred = score < self._config.blurred * usual
        self._sharpness.append(score)
        self._since += 1
        chosen = self._previous is None or self._shows_enough(self._previous, grey, blurred)
        if chosen:
            corners = cv2.goodFeaturesToTrack(grey, 300, 0.01, 7)
            self._corners = (
                np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
            )
            self._start = self._corners
            self._first_count = len(self._corners)
            self._since = 0
        self._previous = grey
        return chosen

    def _shows_enough(self, previous: Grey, grey: Grey, blurred: bool) -> bool:
        moved, seen = follow(previous, grey, self._corners)
        self._corners, self._start = moved[seen], self._start[seen]
        config = self._config
        if self._since < config.min_gap:
            return False
        if self._first_count < _MIN_CORNERS or self._since >= config.max_gap:
            return True
        tracked = len(self._corners) / self._first_count
        if tracked < config.min_tracked / 2:
            return True  # nothing links a later frame to the last keyframe: blurred or not
        motion = np.linalg.norm(self._corners - self._start, axis=1)
        far = np.median(motion) > config.max_motion * np.hypot(*grey.shape)
        return bool((far or tracked < config.min_tracked) and not blurred)
