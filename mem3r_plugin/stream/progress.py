"""What a run tells the person who waits for it."""

from __future__ import annotations

from types import TracebackType

import psutil
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RunProgress:
    """Notes on stderr, one line each, and on a terminal a bar: frames, frames a second, memory.

    Args:
        total: How many frames to expect; None where nobody knows.
        done: Frames of an earlier part of the run.
        silent: Say nothing at all.
    """

    def __init__(self, total: int | None, done: int = 0, silent: bool = False) -> None:
        console = Console(stderr=True, quiet=silent)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            _Memory(),
            TimeRemainingColumn(),
            console=console,
            disable=silent or not console.is_terminal,
        )
        self._task = self._bar.add_task("frames", total=total, completed=done)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """One more frame is done."""
        self._bar.advance(self._task)

    def note(self, text: str) -> None:
        """Say something in a line of its own."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """Frames a second over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} fps" if task.speed else "- fps")


class _Memory(ProgressColumn):
    """Memory of this process, and of the GPU where it uses one."""

    max_refresh = 1.0

    def render(self, task: Task) -> Text:
        text = f"{psutil.Process().memory_info().rss / 1e9:.1f} GB"
        if torch.cuda.is_initialized():
            text += f" + {torch.cuda.memory_allocated() / 1e9:.1f} GB GPU"
        return Text(text)
