"""One scan of a batch: made by one process at a time, and never in vain."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mem3r_plugin.errors import Mem3RError, OutputError
from mem3r_plugin.scan.output_errors import output_errors
from mem3r_plugin.stream.estimate import FrameEstimate
from mem3r_plugin.stream.passage import StreamPassage
from mem3r_plugin.stream.run import RunConfig, run

LOCKS = ".locks"
"""Folder beside the scans for the locks of those who write them."""

PATIENCE = 60.0
"""Seconds to wait for another writer: longer than a machine takes to notice that Ray has given it up."""


@dataclass(frozen=True)
class Outcome:
    """What became of a scan."""

    scan: Path
    """Its folder."""
    frames: int
    """How many frames it has; 0 where it failed."""
    made: int
    """How many of them were made now: fewer than there are where it was begun, 0 where it was complete."""
    failure: str | None = None
    """Why it could not be completed: a line, or the traceback of a bug."""


def make_scan(
    config: RunConfig,
    threads: int | None = None,
    silent: bool = True,
    patience: float = PATIENCE,
    passage: StreamPassage | None = None,
) -> Outcome:
    """Complete a scan; nothing that goes wrong with it is raised, so that others can be made.

    Args:
        config: Source and scan, with `resume`.
        threads: CPU threads of the network; by default torch's own choice.
        silent: As for `run`.
        patience: Seconds to wait while another process writes the scan.
        passage: As for `run`.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    counter = _FrameCounter()
    try:
        with _sole_writer(config.output, patience):
            frames = len(run(config, sinks=[counter], silent=silent, passage=passage))
    except Mem3RError as error:
        return Outcome(config.output, 0, counter.frames, str(error))
    except Exception:
        return Outcome(config.output, 0, counter.frames, traceback.format_exc())
    return Outcome(config.output, frames, counter.frames)


class _FrameCounter:
    """A sink that counts."""

    def __init__(self) -> None:
        self.frames = 0

    def open(self) -> None:
        """Nothing to make ready."""

    def write(self, estimate: FrameEstimate) -> None:
        """One more."""
        self.frames += 1

    def close(self, complete: bool) -> None:
        """Nothing to finish."""


@contextmanager
def _sole_writer(scan: Path, patience: float) -> Iterator[None]:
    """Keep every other process from writing the scan; the system ends this when the process dies.

    Raises:
        OutputError: another process writes it and does not end, or the lock cannot be made.
    """
    lock = FileLock(scan.parent / LOCKS / f"{scan.name}.lock", timeout=patience)
    with output_errors(scan.parent):
        (scan.parent / LOCKS).mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"{scan} is being written by another process; repeat the command when that is done"
            ) from error
    try:
        yield
    finally:
        lock.release()
