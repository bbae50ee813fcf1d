"""Four scans by one worker and by two, or one after the other and together: how much faster a batch is.

    .venv/bin/python benchmarks/batch.py --work /tmp/batch
    .venv/bin/python benchmarks/batch.py --work /tmp/batch --cores-each 1
    .venv/bin/python benchmarks/batch.py --work /tmp/batch --how together

Times are seconds of the clock of the whole command, starting Ray and loading networks included, so the
machine should do nothing else. Every worker's network has one thread, and reads and writes beside it, so that
one alone makes use of more than one core, unless `--cores-each` keeps it to its own. Scans together, and one
after the other, have all threads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from mem3r_plugin.scan import Scan
from mem3r_plugin.training.worlds import HELD_BACK, sample_sequence, write_sequence

SCANS = 4
SIZE = (224, 160)


@dataclass(frozen=True)
class Options:
    """Time `mem3r batch` with one scan at a time and with more."""

    work: Path
    """Folder for the rendered sources, made once, and the scans."""
    how: Literal["workers", "together"] = "workers"
    """Workers of Ray, or scans together in one process."""
    frames: int = 800
    """Frames of each scan."""
    at_once: int | None = None
    """How many scans at once to compare with one; by default two workers, or all four together."""
    cores_each: int | None = None
    """Cores for every scan at once, for Ray's own processes, too; None shares out all of the machine's."""


def main(options: Options) -> None:
    """Print the seconds of both and their ratio."""
    scan_list = _sources(options)
    at_once = options.at_once or {"workers": 2, "together": SCANS}[options.how]
    engine = ["--engine", "ray", "--threads", "1"] if options.how == "workers" else []
    seconds = {}
    for count in (1, at_once):
        output = options.work / f"{count}_{options.how}"
        shutil.rmtree(output, ignore_errors=True)
        cores = None if options.cores_each is None else count * options.cores_each
        seconds[count] = _time(scan_list, output, [*engine, f"--{options.how}", str(count)], cores)
        frames = sum(len(Scan.open(scan)) for scan in output.glob("[!.]*"))
        print(
            f"{options.how}: {count}, scans: {SCANS}, frames: {frames}, {seconds[count]:.1f} s, "
            f"{frames / seconds[count]:.1f} frames/s",
            flush=True,
        )
    print(f"ratio: {seconds[1] / seconds[at_once]:.2f}, on {os.cpu_count()} cores")


def _sources(options: Options) -> Path:
    """The list of the rendered walks."""
    folder = options.work / f"sources_{options.frames}"
    scan_list = folder / "list.txt"
    if not scan_list.exists():
        for index in range(SCANS):
            views = sample_sequence(HELD_BACK + index, options.frames, SIZE)
            write_sequence(views, folder / f"world_{index}")
        scan_list.write_text("".join(f"world_{index}/rgb\n" for index in range(SCANS)))
    return scan_list


def _time(scan_list: Path, output: Path, options: list[str], cores: int | None) -> float:
    command = [str(Path(sys.executable).with_name("mem3r")), "batch", str(scan_list)]
    command = [*command, "--output", str(output), *options]
    with _kept_to(cores):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started


@contextmanager
def _kept_to(cores: int | None) -> Iterator[None]:
    """This process, and what it starts meanwhile, on so many cores (Linux); None leaves all."""
    if cores is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    if cores > len(allowed):
        raise SystemExit(f"--cores-each needs {cores} cores, this process may use {len(allowed)}")
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


if __name__ == "__main__":
    main(tyro.cli(Options))
