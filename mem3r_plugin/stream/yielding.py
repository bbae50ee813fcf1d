"""Threads that make way for the network's."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

_NICENESS = 19


def give_way() -> None:
    """Let this thread run only where the others leave a core free; does nothing but on Linux.

    The network's threads meet at the end of every matrix product. One that has to wait for reading or writing
    to leave its core would hold up all of them, hundreds of times a frame.
    """
    if sys.platform == "linux":  # where threads have priorities of their own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
