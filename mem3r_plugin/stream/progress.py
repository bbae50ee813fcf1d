"""What a run tells the person who waits for it."""

from __future__ import annotations

import psutil
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mem3r_plugin.progress import Bars


class RunProgress(Bars):
    """Notes on stderr, one line each, and on a terminal a bar: frames, frames a second, memory.

    Args:
        total: How many frames to expect; None where nobody knows.
        done: Frames of an earlier part of the run.
        silent: Say nothing at all.
    """

    def __init__(self, total: int | None, done: int = 0, silent: bool = False) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            _Memory(),
            TimeRemainingColumn(),
            silent=silent,
        )
        self._task = self.bars.add_task("frames", total=total, completed=done)

    def advance(self) -> None:
        """One more frame is done."""
        self.bars.advance(self._task)


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
