"""Which frames carry the geometry: those that show something new and are not blurred."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.refine.keyframes.overlap import PredictedView
from mem3r_plugin.refine.keyframes.tracking import follow
from mem3r_plugin.scan import Scan

Grey = NDArray[np.uint8]
Pixels = NDArray[np.float32]

LONG_SIDE = 320
"""Keyframes are chosen on pictures reduced to this long side, in pixels."""

_MEMORY = 15  # frames that say what sharp means here
_MIN_CORNERS = 30  # fewer say nothing
_AGREEMENT = 0.2  # of max_motion, by which predicted and followed corners may differ
_JITTER = 0.1  # of the time between keyframes, which timestamps may be off
_CENTRE = 0.5  # from OpenCV's pixel centres at integers to those at half-integers


@dataclass(frozen=True)
class KeyframeConfig:
    """When a frame becomes a keyframe."""

    all_below: int = 100
    """Scans of fewer frames have keyframes only: photo sets, and clips that cost little."""
    max_motion: float = 0.05
    """It does when what the last keyframe shows has moved by this share of the picture's diagonal."""
    min_overlap: float = 0.6
    """It does when less than this share of the last keyframe is still seen."""
    max_rate: float = 10.0
    """Keyframes per second at most, by the frames' timestamps."""
    max_gap: int = 30
    """Frames from one keyframe to the next at most."""
    blurred: float = 0.5
    """A frame below this share of the usual sharpness is passed over while the next may do."""

    def __post_init__(self) -> None:
        """Refuse a rate that no keyframe has.

        Raises:
            ConfigError: `max_rate` is not positive.
        """
        if not self.max_rate > 0:
            raise ConfigError(f"max_rate is {self.max_rate}, it must be more than 0")


@dataclass(frozen=True)
class _Change:
    """What has become of the last keyframe's picture."""

    motion: float
    """By how much it has moved, in the median, as a share of the picture's diagonal."""
    overlap: float
    """Share of it that is still seen."""


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
    """Chooses keyframes on line, in memory that does not grow, from motion and overlap.

    Both are known twice: from the network's depth and poses, and from corners of the last keyframe that
    are followed from picture to picture. The network's word counts where it puts the corners where
    they are found, and where there are none to follow; where the two contradict each other, the
    corners' does.
    """

    def __init__(self, config: KeyframeConfig) -> None:
        self._config = config
        self._previous: Grey | None = None
        self._last: _Keyframe | None = None
        self._sharpness: deque[float] = deque(maxlen=_MEMORY)

    def offer_frame(self, scan: Scan, index: int, grey: Grey) -> bool:
        """Whether frame `index` of a scan, with the picture `grey` (H, W), becomes a keyframe.

        Frames are to be offered in their order.
        """
        small = reduced(grey)
        view = PredictedView.of(scan, index, small.shape[1], small.shape[0])
        return self.offer(small, scan.frames[index].timestamp, view)

    def offer(self, grey: Grey, timestamp: float, view: PredictedView) -> bool:
        """Whether the next frame becomes a keyframe.

        Args:
            grey: The frame's reduced picture, shape (h, w).
            timestamp: Seconds since the start of the source.
            view: What the network says about the frame, at the size of `grey`.
        """
        blurred = self._is_blurred(grey)
        last = self._last
        chosen = True
        if last is not None and self._previous is not None:
            last.follow_into(self._previous, grey)
            early = timestamp - last.timestamp < (1 - _JITTER) / self._config.max_rate
            chosen = not early and self._shows_enough(last, view, blurred)
        if chosen:
            self._last = _Keyframe.of(grey, timestamp, view)
        self._previous = grey
        return chosen

    def _is_blurred(self, grey: Grey) -> bool:
        """Whether a picture is much less sharp than those just before it."""
        score = sharpness(grey)
        usual = float(np.median(self._sharpness)) if self._sharpness else 0.0
        self._sharpness.append(score)
        return score < self._config.blurred * usual

    def _shows_enough(self, last: _Keyframe, view: PredictedView, blurred: bool) -> bool:
        config = self._config
        if last.age >= config.max_gap:
            return True
        if last.textured and last.tracked < config.min_overlap / 2:
            return True  # nothing will link a later frame to the last keyframe: blurred or not
        change = self._change(last, view)
        return not blurred and (
            change.motion > config.max_motion or change.overlap < config.min_overlap
        )

    def _change(self, last: _Keyframe, view: PredictedView) -> _Change:
        if last.textured and last.disagreement(view) > _AGREEMENT * self._config.max_motion:
            return last.followed_change()
        predicted = last.predicted_change(view)
        if not last.textured:
            return predicted
        return _Change(predicted.motion, min(predicted.overlap, last.tracked))


class _Keyframe:
    """The last keyframe: its corners as they are followed, and its points as the network has them."""

    def __init__(self, grey: Grey, timestamp: float, view: PredictedView, corners: Pixels) -> None:
        self.timestamp = timestamp
        self.age = 0
        self._diagonal = float(np.hypot(*grey.shape))
        self._count = len(corners)
        self._start = self._corners = corners
        self._corner_points = view.unproject(corners.astype(np.float64) + _CENTRE)
        grid = view.grid()
        points = view.unproject(grid)
        known = np.isfinite(points).all(axis=1)
        self._grid, self._grid_points = grid[known], points[known]

    @classmethod
    def of(cls, grey: Grey, timestamp: float, view: PredictedView) -> _Keyframe:
        """A keyframe with up to 300 corners, as OpenCV counts them: pixel centres at integers."""
        corners = cv2.goodFeaturesToTrack(grey, 300, 0.01, 7)
        found = np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
        return cls(grey, timestamp, view, found)

    @property
    def textured(self) -> bool:
        """Whether it has corners enough to tell anything."""
        return self._count >= _MIN_CORNERS

    @property
    def tracked(self) -> float:
        """Share of its corners that could be followed up to now."""
        return len(self._corners) / max(self._count, 1)

    def follow_into(self, previous: Grey, grey: Grey) -> None:
        """Follow the corners from one picture into the next; those that are lost are forgotten."""
        self.age += 1
        moved, seen = follow(previous, grey, self._corners)
        self._corners = moved[seen]
        self._start, self._corner_points = self._start[seen], self._corner_points[seen]

    def followed_change(self) -> _Change:
        """Motion and overlap by the corners."""
        return _Change(self._median_length(self._corners - self._start), self.tracked)

    def predicted_change(self, view: PredictedView) -> _Change:
        """Motion and overlap by the network; none where it has no depth."""
        if not len(self._grid):
            return _Change(0.0, 1.0)
        pixels = view.project(self._grid_points)
        inside = view.camera.contains(pixels)
        return _Change(self._median_length((pixels - self._grid)[inside]), float(inside.mean()))

    def disagreement(self, view: PredictedView) -> float:
        """How far the network puts the corners from where they are, a share of the diagonal."""
        predicted = view.project(self._corner_points)
        known = np.isfinite(predicted).all(axis=1)
        if known.sum() < _MIN_CORNERS / 2:
            return np.inf
        return self._median_length((predicted - self._corners - _CENTRE)[known])

    def _median_length(self, vectors: NDArray[np.floating]) -> float:
        lengths = np.linalg.norm(vectors, axis=1)
        return float(np.median(lengths)) / self._diagonal if len(lengths) else 0.0
