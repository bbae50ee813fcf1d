"""Where a stream's time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ON_DEVICE = ("encode", "recur", "heads", "transfer")
"""Stages that the network's device works on."""


class StageClock:
    """Adds up the seconds of named stages.

    Args:
        device: Where the work of a stage is done; a GPU is waited for, so that its time counts where
            it belongs, which costs speed.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self.seconds: dict[str, float] = defaultdict(float)
        """Seconds by stage; stages of other threads overlap with the rest."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside towards `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            # Only stages that leave work on the GPU have to wait for it.
            if self._device is not None and self._device.type == "cuda" and name in ON_DEVICE:
                torch.cuda.synchronize(self._device)
            self.seconds[name] += time.perf_counter() - started


class NoClock(StageClock):
    """Counts nothing."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Do what is inside."""
        yield
