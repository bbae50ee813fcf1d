"""The installed `mem3r` as a person runs it."""

import subprocess
import sys
from pathlib import Path

MEM3R = Path(sys.executable).with_name("mem3r")


def mem3r(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without a terminal."""
    command = [str(MEM3R), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command printed, without its prefix; fails if there is more."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("mem3r: error: ")
    return lines[0].removeprefix("mem3r: error: ")
