"""Where a stream's time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """Adds up the seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        """Seconds by stage; stages of other threads, or of a GPU's streams, overlap with the rest."""
        self.replays = 0
        """Frames whose recurrent step was a CUDA graph replayed."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside towards `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        """Count `seconds` towards `name`."""
        self.seconds[name] += seconds


class NoClock(StageClock):
    """Counts nothing."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Do what is inside."""
        yield

    def add(self, name: str, seconds: float) -> None:
        """Let it pass."""
