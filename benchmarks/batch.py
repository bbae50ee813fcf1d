"""Four scans by one worker and by two, or one after the other and together: how much faster a batch is.

    .venv/bin/python benchmarks/batch.py --work /tmp/batch
    .venv/bin/python benchmarks/batch.py --work /tmp/batch --how together

Times are seconds of the clock of the whole command, starting Ray and loading networks included, so the
machine should do nothing else. Every worker has one thread: two workers on two cores are compared with one on
one of them. Scans together, and one after the other, have all threads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
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


def main(options: Options) -> None:
    """Print the seconds of both and their ratio."""
    scan_list = _sources(options)
    at_once = options.at_once or {"workers": 2, "together": SCANS}[options.how]
    engine = ["--engine", "ray", "--threads", "1"] if options.how == "workers" else []
    seconds = {}
    for count in (1, at_once):
        output = options.work / f"{count}_{options.how}"
        shutil.rmtree(output, ignore_errors=True)
        seconds[count] = _time(scan_list, output, [*engine, f"--{options.how}", str(count)])
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


def _time(scan_list: Path, output: Path, options: list[str]) -> float:
    command = [str(Path(sys.executable).with_name("mem3r")), "batch", str(scan_list)]
    started = time.perf_counter()
    subprocess.run([*command, "--output", str(output), *options], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(tyro.cli(Options))
