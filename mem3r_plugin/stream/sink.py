"""Where estimates go."""

from __future__ import annotations

from typing import Protocol

from mem3r_plugin.stream.estimate import FrameEstimate


class Sink(Protocol):
    """Takes estimates as they arrive and keeps none of them in memory.

    The front end calls `open` before the first frame, `write` once a frame in order, and `close` at the
    end, also after an error (then with `complete=False`).
    """

    def open(self) -> None:
        """Get ready; raise `OutputError` where nothing can be written."""

    def write(self, estimate: FrameEstimate) -> None:
        """Take one frame."""

    def close(self, complete: bool) -> None:
        """Finish; `complete` tells whether the source was read to its end."""
