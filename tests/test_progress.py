from __future__ import annotations

import os
import pty
import subprocess
import sys

CODE = """
from mem3r_plugin.progress import ProgressBars
with ProgressBars() as progress:
    progress("waiting [for] nothing", 0, 0)
    for done in range(3):
        progress("frames", done + 1, 3)
"""


def test_without_a_terminal_every_stage_is_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "waiting [for] nothing\nframes\n"


def test_on_a_terminal_every_stage_is_a_bar() -> None:
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=writer, stderr=writer, env=environment
    ) as process:
        assert process.wait(60) == 0
    os.close(writer)
    shown = os.read(reader, 100_000).decode()
    os.close(reader)
    assert "waiting [for] nothing" in shown
    assert "3/3" in shown
