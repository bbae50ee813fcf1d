"""What a batch tells the person who waits for it."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from mem3r_plugin.batch.work import Outcome


class BatchProgress:
    """A line on stderr for every scan that is through and, on a terminal, a bar: scans, frames a second.

    Args:
        total: How many scans there are.
        bar: Show the bar; not where every scan has one of its own.
    """

    def __init__(self, total: int, bar: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("scans"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not (bar and console.is_terminal),
        )
        self._task = self._bar.add_task("scans", total=total, rate="")
        self._total = total
        self._started = time.monotonic()
        self._through = self._frames = 0

    def __enter__(self) -> BatchProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def tell(self, outcome: Outcome) -> None:
        """One more scan is through."""
        self._through += 1
        self._frames += outcome.made
        rate = self._frames / (time.monotonic() - self._started)
        self._bar.update(self._task, advance=1, rate=f"{rate:.1f} fps")
        text = f"{self._through}/{self._total} {outcome.scan.name}: {_told(outcome)}"
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _told(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return f"failed: {outcome.failure}"
    if outcome.made == outcome.frames:
        return f"{outcome.frames} frames"
    if outcome.made == 0:
        return f"{outcome.frames} frames, complete before"
    return f"{outcome.frames} frames, {outcome.made} of them now"
