"""Keeping freed memory instead of handing it back to the system."""

from __future__ import annotations

import ctypes
import platform

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
"""Numbers of `mallopt`'s settings (malloc.h)."""
_LARGE = 2**30
"""Bytes: more than any map that the network makes."""


def keep_freed_memory() -> None:
    """Let this process reuse large blocks that it has freed; does nothing where the C library is not glibc.

    By default glibc takes every block above 32 MB from the system and gives it back at once, so that the
    maps of a dense head are paged in anew for every frame, which takes a third of the head's time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    # No block of its own from the system, rather than only larger ones: before glibc 2.35 their threshold
    # could not be raised above 32 MB.
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _LARGE)
