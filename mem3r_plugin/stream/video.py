"""Video files and cameras, read with OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import FrameSkipped, SourceError
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.source import Selection, SkippedFrame, Source

# FFmpeg would print its own lines about every damaged packet; ours say what they mean.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_SILENT = 0
"""OpenCV's log level at which it says nothing."""

_LONGEST_GAP = 1000
"""Undecodable frames in a row after which a video counts as ended."""


class VideoReader:
    """Frames of a video file by number, upright.

    A frame's number is how many frames the decoder was asked for before it. Seeking is not exact in
    most containers, so it is never used: going forward decodes what lies between, going back
    starts again.

    Raises:
        SourceError: the file is missing or no video.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        if not self._path.is_file():
            raise SourceError(f"{self._path} does not exist")
        self._capture = _open_capture(str(self._path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise SourceError(f"{self._path} cannot be read as a video: no such format, or damaged")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self.position = -1

    @property
    def frame_count(self) -> int:
        """How many frames the file announces; 0 where it does not say."""
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    @property
    def fps(self) -> float:
        """Frames a second as the file announces; 0 where it does not say."""
        return max(0.0, float(self._capture.get(cv2.CAP_PROP_FPS)))

    @property
    def timestamp(self) -> float:
        """Seconds of the current frame since the start of the video."""
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0

    def advance(self) -> bool:
        """Go to the next frame without converting it; False where it cannot be decoded."""
        self.position += 1
        return bool(self._capture.grab())

    def image(self) -> NDArray[np.uint8]:
        """The current frame, RGB (height, width, 3).

        Raises:
            FrameSkipped: it cannot be decoded.
        """
        return _retrieve(self._capture)

    def read(self, position: int) -> NDArray[np.uint8]:
        """Frame number `position`; cheap when asked for in rising order.

        Raises:
            FrameSkipped: it cannot be decoded.
        """
        if position < self.position:
            self.close()
            self._open()
        while self.position < position:
            self.advance()
        return self.image()

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VideoSource(Source):
    """A video file; frames are named `frame_000123.png` after their number in the file.

    Raises:
        SourceError: the file is no video.
    """

    kind = "video"

    def __init__(self, path: Path, selection: Selection) -> None:
        super().__init__(selection)
        self._path = path.absolute()
        with VideoReader(self._path) as video:
            self._frame_count, self._fps = video.frame_count, video.fps

    def describe(self) -> dict[str, Any]:
        """Kind and path of the file."""
        return {"kind": self.kind, "path": str(self._path)}

    @property
    def expected_frames(self) -> int | None:
        """From the length and the rate that the file announces."""
        if not self._frame_count or not self._fps:
            return self.selection.max_frames
        end = self._frame_count / self._fps
        seconds = min(self.selection.end or end, end) - (self.selection.start or 0.0)
        rate = min(self.selection.fps or self._fps, self._fps / self.selection.stride)
        expected = max(0, round(seconds * rate))
        return min(expected, self.selection.max_frames or expected)

    def _candidates(self) -> Iterator[Frame | SkippedFrame]:
        wanted = _Clock(self.selection)
        end = 0
        with VideoReader(self._path) as video:
            for lost in self._decodable(video):
                if lost:
                    after = f", nor the {lost - 1} after it" if lost > 1 else ""
                    yield _skipped(end, f"cannot be decoded{after}")
                end = video.position + 1
                timestamp = video.timestamp
                if wanted.is_over(timestamp):
                    return
                if wanted.takes(timestamp):
                    yield _picture(video, timestamp)
        # Some containers only guess their length; a few frames less are no damage.
        if self._frame_count - end > max(1, 0.02 * self._frame_count):
            read = f"the file announces {self._frame_count} frames, {end} could be read"
            yield _skipped(end, f"is missing: {read}")

    def _decodable(self, video: VideoReader) -> Iterator[int]:
        """Go from one decodable frame to the next; gives how many were lost right before it."""
        lost = 0
        while not lost or (video.position + 1 < self._frame_count and lost < _LONGEST_GAP):
            if video.advance():
                yield lost
                lost = 0
            else:
                lost += 1


class CameraSource(Source):
    """A camera by its index; never ends by itself, and cannot be read twice.

    Raises:
        SourceError: no such camera.
    """

    kind = "camera"

    def __init__(self, index: int, selection: Selection) -> None:
        selection.require_no_clock("a camera")
        super().__init__(selection)
        self._index = index
        self._capture = _open_capture(index, cv2.CAP_ANY)
        if not self._capture.isOpened():
            raise SourceError(f"camera {index} cannot be opened: not there, or used by a program")

    def describe(self) -> dict[str, Any]:
        """Kind and index of the camera."""
        return {"kind": self.kind, "index": self._index}

    @property
    def restartable(self) -> bool:
        """Never: what it saw is gone."""
        return False

    def _candidates(self) -> Iterator[Frame | SkippedFrame]:
        start = time.monotonic()
        position = -1
        try:
            while self._capture.grab():
                position += 1
                if position % self.selection.stride:
                    continue
                timestamp = time.monotonic() - start
                image = _retrieve(self._capture)
                yield Frame(0, _video_frame_name(position), timestamp, image, None, position)
        finally:
            self._capture.release()


class _Clock:
    """Tells which frames of a video a `Selection` takes, from their timestamps in rising order."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._start = selection.start or 0.0
        self._seen = 0
        self._tick = -1

    def is_over(self, timestamp: float) -> bool:
        """Whether the video is past the selection's end."""
        return self._selection.end is not None and timestamp >= self._selection.end

    def takes(self, timestamp: float) -> bool:
        """Whether the next frame is selected."""
        if timestamp < self._start:
            return False
        if self._selection.fps is None:
            self._seen += 1
            return (self._seen - 1) % self._selection.stride == 0
        # One frame in each tick of 1/fps; the small sum absorbs rounded timestamps.
        tick = int((timestamp - self._start) * self._selection.fps + 1e-3)
        if tick == self._tick:
            return False
        self._tick = tick
        return True


def _open_capture(target: str | int, backend: int) -> cv2.VideoCapture:
    """An OpenCV capture, opened or not, without OpenCV's own lines on why not."""
    set_level = getattr(cv2.utils, "logging", cv2).setLogLevel  # OpenCV 5 has moved it
    level = set_level(_SILENT)
    try:
        return cv2.VideoCapture(target, backend)
    finally:
        set_level(level)


def _retrieve(capture: cv2.VideoCapture) -> NDArray[np.uint8]:
    decoded, image = capture.retrieve()
    if not decoded:
        raise FrameSkipped("cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _video_frame_name(position: int) -> str:
    return f"frame_{position:06d}.png"


def _picture(video: VideoReader, timestamp: float) -> Frame | SkippedFrame:
    try:
        image = video.image()
    except FrameSkipped:
        return _skipped(video.position, "cannot be decoded")
    name = _video_frame_name(video.position)
    return Frame(0, name, timestamp, image, None, video.position)


def _skipped(position: int, reason: str) -> SkippedFrame:
    return SkippedFrame(position, _video_frame_name(position), reason)
