"""Sources of frames: what they have in common, and `open_source`, which picks the right one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.stream.estimate import Frame

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File names that count as pictures, in lower case."""

_BLACK = 10
"""A frame is black where 99 % of its pixels stay below this value in every channel."""


@dataclass(frozen=True)
class SkippedFrame:
    """A frame the stream goes on without."""

    position: int
    """Where it lies in the source, as `Frame.position`."""
    name: str
    """The name it would have had."""
    reason: str
    """Why it cannot be used, in words for the user."""


@dataclass(frozen=True)
class Selection:
    """Which frames of a source are used."""

    stride: int = 1
    """Take every `stride`-th frame."""
    max_frames: int | None = None
    """Stop after this many usable frames."""
    start: float | None = None
    """Leave out what lies before this time, in seconds; videos only."""
    end: float | None = None
    """Leave out what lies at or after this time, in seconds; videos only."""
    fps: float | None = None
    """Thin a video to about this many frames a second, in place of a stride."""

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"stride is {self.stride}, it must be at least 1")
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"max_frames is {self.max_frames}, it must be at least 1")
        if self.fps is not None and self.fps <= 0:
            raise ConfigError(f"fps is {self.fps}, it must be above 0")
        if self.fps is not None and self.stride != 1:
            raise ConfigError("stride and fps both thin the video: give one of them")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ConfigError(f"end ({self.end} s) is not after start ({self.start or 0.0} s)")

    def require_no_clock(self, what: str) -> None:
        """Refuse the options that need timestamps for a source without any."""
        for option in ("start", "end", "fps"):
            if getattr(self, option) is not None:
                raise ConfigError(f"{option} needs a video, {what} has no clock: use stride")


class Source(ABC):
    """Frames read lazily, one after the other; the whole of them is never held.

    A subclass reads candidates. This class numbers them and sorts out what a scan cannot use: the
    first usable frame fixes the size, since one shared camera needs one size, and black frames say
    nothing about the scene.
    """

    kind: ClassVar[str]
    """`images`, `video`, `arrays` or `camera`; the `source.kind` of a scan."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """JSON-ready record of where the frames come from, for `scan.json`."""

    @abstractmethod
    def _candidates(self) -> Iterator[Frame | SkippedFrame]:
        """Every selected frame from the beginning; its `index` is not set yet."""

    @property
    def expected_frames(self) -> int | None:
        """About how many frames will come, for a progress bar; None where nobody knows."""
        return self.selection.max_frames

    @property
    def restartable(self) -> bool:
        """Whether `frames` gives the same frames again when called again."""
        return True

    def frames(self, start_index: int = 0) -> Iterator[Frame | SkippedFrame]:
        """Usable frames from number `start_index` on, and records of the skipped ones between.

        A restart reads the source again from its beginning, since what was skipped before decides
        which frame has which number. It is exact for every kind of file.

        Raises:
            SourceError: the source cannot be read, cannot be restarted, or has no usable frame.
        """
        if start_index and not self.restartable:
            raise SourceError(f"{self._title} cannot be read again, so it cannot be resumed")
        index = 0
        size: tuple[int, ...] | None = None
        first_skip: SkippedFrame | None = None
        for candidate in self._candidates():
            item = candidate if isinstance(candidate, SkippedFrame) else _screened(candidate, size)
            if isinstance(item, SkippedFrame):
                first_skip = first_skip or item
                if index >= start_index:
                    yield item
                continue
            size = item.image.shape
            if index >= start_index:
                yield replace(item, index=index)
            index += 1
            if index == self.selection.max_frames:
                return
        if index == 0:
            why = f": {first_skip.name} {first_skip.reason}" if first_skip else ""
            raise SourceError(f"no usable frame in {self._title}{why}")

    @property
    def _title(self) -> str:
        """What to call the source in a message."""
        record = self.describe()
        return str(record.get("path", f"the {record['kind']} source"))


def open_source(
    spec: str | Path | int | Source | Iterable[NDArray[Any]],
    *,
    stride: int = 1,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
) -> Source:
    """The source that `spec` names.

    Args:
        spec: an image folder, a glob such as `walk/*.jpg`, one image, a video file, a camera index
            (an int, or its digits where no file of that name exists), an iterable of arrays, or a
            `Source`, which is returned as it is.
        stride: take every `stride`-th frame.
        max_frames: stop after this many usable frames.
        start: first second of a video to use.
        end: second of a video to stop before.
        fps: thin a video to about this many frames a second.

    Raises:
        SourceError: nothing readable is there.
        ConfigError: an option makes no sense, alone or for this kind of source.
    """
    # cv2 and PIL load slowly; only the source that needs one pays for it.
    from mem3r_plugin.stream.arrays import ArraySource
    from mem3r_plugin.stream.images import ImageSource
    from mem3r_plugin.stream.video import CameraSource, VideoSource

    if isinstance(spec, Source):
        return spec
    selection = Selection(stride, max_frames, start, end, fps)
    if isinstance(spec, int):
        return CameraSource(spec, selection)
    if not isinstance(spec, str | Path):
        return ArraySource(spec, selection)
    path = Path(spec).expanduser()
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path, selection)
    if path.is_file():
        return VideoSource(path, selection)
    if str(spec).isdecimal():
        return CameraSource(int(str(spec)), selection)
    return ImageSource(path, selection)


def _screened(frame: Frame, size: tuple[int, ...] | None) -> Frame | SkippedFrame:
    """The frame, or why a scan whose frames have shape `size` cannot use it."""
    height, width = frame.image.shape[:2]
    if size is not None and frame.image.shape != size:
        reason = f"is {width}x{height}, the frames before it are {size[1]}x{size[0]}"
        return SkippedFrame(frame.position, frame.name, reason)
    # Every fourth row and column is plenty to see that nothing is to be seen.
    if (frame.image[::4, ::4] >= _BLACK).any(axis=-1).mean() < 0.01:
        return SkippedFrame(frame.position, frame.name, "is black")
    return frame
