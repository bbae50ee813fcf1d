"""Four scans by one worker and by two: how much faster a batch is with another worker.

    .venv/bin/python benchmarks/batch.py --work /tmp/batch

Times are seconds of the clock of the whole command, starting Ray included, so the machine should do nothing
else. Every worker has one thread: two workers on two cores are compared with one on one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from mem3r_plugin.scan import Scan
from mem3r_plugin.training.worlds import HELD_BACK, sample_sequence, write_sequence

SCANS = 4
SIZE = (224, 160)


@dataclass(frozen=True)
class Options:
    """Time `mem3r batch --engine ray` with one worker and with more."""

    work: Path
    """Folder for the rendered sources, made once, and the scans."""
    frames: int = 800
    """Frames of each scan."""
    workers: int = 2
    """How many workers to compare with one."""


def main(options: Options) -> None:
    """Print the seconds of both and their ratio."""
    scan_list = _sources(options)
    seconds = {}
    for workers in (1, options.workers):
        output = options.work / f"{workers}_workers"
        shutil.rmtree(output, ignore_errors=True)
        seconds[workers] = _time(scan_list, output, workers)
        frames = sum(len(Scan.open(scan)) for scan in output.glob("[!.]*"))
        print(
            f"workers: {workers}, scans: {SCANS}, frames: {frames}, {seconds[workers]:.1f} s, "
            f"{frames / seconds[workers]:.1f} frames/s",
            flush=True,
        )
    print(f"ratio: {seconds[1] / seconds[options.workers]:.2f}, on {os.cpu_count()} cores")


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


def _time(scan_list: Path, output: Path, workers: int) -> float:
    command = [str(Path(sys.executable).with_name("mem3r")), "batch", str(scan_list)]
    command += ["--output", str(output), "--engine", "ray", "--threads", "1"]
    started = time.perf_counter()
    subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(tyro.cli(Options))
