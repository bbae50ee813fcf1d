"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
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


class Bars:
    """Bars on stderr where it is a terminal, and lines above them; shown inside a `with` block.

    Args:
        columns: What the bars consist of.
        shown: Whether there are bars at all.
        silent: Say nothing, neither in bars nor in lines.
    """

    def __init__(self, *columns: ProgressColumn, shown: bool = True, silent: bool = False) -> None:
        console = Console(stderr=True, quiet=silent)
        hidden = silent or not shown or not console.is_terminal
        self.bars = Progress(*columns, console=console, disable=hidden)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        """Say something in a line of its own."""
        self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


class ProgressBars(Bars):
    """On a terminal a bar for every stage, elsewhere a line on stderr when one begins.

    A `ProgressCallback` inside a `with` block.
    """

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._stage = ""
        self._task: TaskID | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._end_stage()
        super().__exit__(kind, error, trace)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show where the work is."""
        if stage != self._stage:
            self._end_stage()
            self._stage = stage
            self._task = self.bars.add_task(stage, total=total or None)
            if not self.bars.console.is_terminal:
                self.note(stage)
        if self._task is not None and total:
            self.bars.update(self._task, completed=done, total=total)

    def _end_stage(self) -> None:
        """Fill the bar of the stage that is over."""
        if self._task is None:
            return
        total = self.bars.tasks[-1].total or 1
        self.bars.update(self._task, completed=total, total=total)
