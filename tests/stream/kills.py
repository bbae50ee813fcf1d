"""Runs that kill themselves with SIGKILL in the middle of writing."""

import os
import signal
from typing import Any

import torch

from mem3r_plugin.scan import ScanSink
from mem3r_plugin.stream.run import RunConfig, run


def run_and_die_before_rename(config: RunConfig, survived: int) -> None:
    """Run; die in the place of the rename that follows `survived` others."""
    rename, calls = os.replace, iter(range(survived))

    def deadly(*args: Any, **kwargs: Any) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*args, **kwargs)

    os.replace = deadly
    torch.set_num_threads(1)
    run(config, silent=True)


def run_and_die_in_line(config: RunConfig, line: int, written: int) -> None:
    """Run; die when `written` bytes of this line of `frames.jsonl` are on disk."""
    append, calls = ScanSink._append, iter(range(line))

    def deadly(self: ScanSink, lines: Any, content: bytes) -> None:
        if next(calls, None) is None:
            lines.write(content[:written])
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, lines, content)

    ScanSink._append = deadly  # type: ignore[method-assign, assignment]
    torch.set_num_threads(1)
    run(config, silent=True)
