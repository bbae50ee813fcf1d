"""What a batch tells the person who waits for it."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from mem3r_plugin.batch.work import Outcome
from mem3r_plugin.progress import Bars


class BatchProgress(Bars):
    """A line on stderr for every scan that is through and, on a terminal, a bar: scans, frames a second.

    Args:
        total: How many scans there are.
        bar: Show the bar; not where every scan has one of its own.
    """

    def __init__(self, total: int, bar: bool) -> None:
        super().__init__(
            TextColumn("scans"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            shown=bar,
        )
        self._task = self.bars.add_task("scans", total=total, rate="")
        self._total = total
        self._started = time.monotonic()
        self._through = self._frames = 0

    def tell(self, outcome: Outcome) -> None:
        """One more scan is through."""
        self._through += 1
        self._frames += outcome.made
        rate = self._frames / (time.monotonic() - self._started)
        self.bars.update(self._task, advance=1, rate=f"{rate:.1f} fps")
        self.note(f"{self._through}/{self._total} {outcome.scan.name}: {_told(outcome)}")


def _told(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return f"failed: {outcome.failure}"
    if outcome.made == outcome.frames:
        return f"{outcome.frames} frames"
    if outcome.made == 0:
        return f"{outcome.frames} frames, complete before"
    return f"{outcome.frames} frames, {outcome.made} of them now"
