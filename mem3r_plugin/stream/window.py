"""Frames made ready for the network, and gathered into windows that pass through it together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.masks import MaskFolder
from mem3r_plugin.stream.prefetch import prefetch
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.source import SkippedFrame
from mem3r_plugin.stream.stages import NoClock, StageClock

WINDOW_TOKENS = 1536
"""Image tokens of a window: so many keep a processor's matrix units busy."""
LARGEST_WINDOW = 16
"""Frames of a window at most."""


@dataclass(frozen=True)
class ReadyFrame:
    """A frame and what the network will see of it."""

    frame: Frame
    """The original."""
    picture: NDArray[np.uint8]
    """RGB at network size (h, w, 3)."""
    transform: ImageTransform
    """From original pixels to the network's."""
    keep: NDArray[np.bool_] | None
    """Pixels (h, w) that no mask leaves out; None where there is no mask."""


@dataclass(frozen=True)
class Readier:
    """Makes frames ready for the network."""

    preprocessor: Preprocessor
    """Resizes and crops."""
    masks: MaskFolder | None = None
    """What to leave out."""
    clock: StageClock = field(default_factory=NoClock)
    """Told how long reading and resizing take."""

    def __call__(self, frame: Frame) -> ReadyFrame:
        """The frame as the network will see it.

        Raises:
            SourceError: the picture is too narrow, or its mask is wrong.
        """
        with self.clock.stage("preprocess"):
            picture, transform = self.preprocessor(frame.image)
            keep = None if self.masks is None else self.masks.keep(frame, transform)
        return ReadyFrame(frame, picture, transform, keep)


def window_size(size: tuple[int, int]) -> int:
    """How many pictures of `size` = (height, width) pass through the network together."""
    tokens = size[0] * size[1] // PATCH**2
    return min(LARGEST_WINDOW, max(1, WINDOW_TOKENS // tokens))


def windows(
    items: Iterable[Frame | SkippedFrame],
    ready: Readier,
    room: Callable[[int], int],
    *,
    ahead: int = LARGEST_WINDOW,
) -> Generator[list[ReadyFrame] | SkippedFrame, None, None]:
    """Frames in windows, in order; frames are read and made ready ahead, in a thread.

    Args:
        items: What a source yields.
        ready: Makes frames ready.
        room: Tells, when a window begins, how many frames it may hold, given how many suit the network.
        ahead: How many frames to read ahead.

    Raises:
        Exception: whatever `items` or `ready` raised, once the frames before it have come.
    """

    def made_ready() -> Generator[ReadyFrame | SkippedFrame, None, None]:
        iterator = iter(items)
        while True:
            with ready.clock.stage("decode"):
                item = next(iterator, None)
            if item is None:
                return
            yield item if isinstance(item, SkippedFrame) else ready(item)

    window: list[ReadyFrame] = []
    limit = 1
    with closing(prefetch(made_ready(), depth=ahead)) as frames:
        while True:
            try:
                item = next(frames, None)
            except Exception:
                if window:  # what came before the failure is not lost
                    yield window
                raise
            if isinstance(item, ReadyFrame):
                if not window:
                    limit = room(window_size(item.picture.shape[:2]))
                window.append(item)
                if len(window) < limit:
                    continue
            if window:
                yield window
                window = []
            if isinstance(item, SkippedFrame):
                yield item
            elif item is None:
                return
