"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

ProgressCallback = Callable[[str, int, int], None]
"""Is told what is being done, how many steps of it are done and how many there are: 0 of 0 where nobody
counts. A stage ends where the next one begins."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


class ProgressBars:
    """On a terminal a bar for every stage, elsewhere a line on stderr when one begins.

    A `ProgressCallback` inside a `with` block.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._stage = ""
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._end_stage()
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show where the work is."""
        if stage != self._stage:
            self._end_stage()
            self._stage = stage
            self._task = self._bars.add_task(stage, total=total or None)
            if not self._console.is_terminal:
                self._console.print(stage, markup=False, highlight=False, soft_wrap=True)
        if self._task is not None and total:
            self._bars.update(self._task, completed=done, total=total)

    def _end_stage(self) -> None:
        """Fill the bar of the stage that is over."""
        if self._task is None:
            return
        total = self._bars.tasks[-1].total or 1
        self._bars.update(self._task, completed=total, total=total)
