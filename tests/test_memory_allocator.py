"""Freed memory stays with the process; seen from outside, since it changes a whole process."""

import json
import platform
import subprocess
import sys

import pytest

from mem3r_plugin import memory_allocator

USE_AGAIN = """
import ctypes, json, resource, sys
import psutil
from mem3r_plugin.memory_allocator import keep_freed_memory

SIZE = 64 * 2**20
process, library = psutil.Process(), ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]

def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    held = process.memory_info().rss
    library.free(block)
    return {"faults": faults, "held": held, "freed": process.memory_info().rss}

if sys.argv[1] == "keep":
    keep_freed_memory()
print(json.dumps([use() for _ in range(3)]))
"""

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only the allocator of glibc is told"
)


def used(how: str) -> list[dict[str, int]]:
    """Page faults and resident bytes of using 64 MB three times over."""
    command = [sys.executable, "-c", USE_AGAIN, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


@glibc
def test_a_freed_block_is_kept_and_used_again():
    first, *later = used("keep")
    for use in (first, *later):
        assert use["held"] - use["freed"] < 2**20
    for use in later:
        assert use["faults"] < 20
        assert use["held"] - first["held"] < 2**20


@glibc
def test_by_itself_glibc_gives_a_freed_block_back():
    """Or else the test above would show nothing."""
    for use in used("give back"):
        assert use["faults"] >= 32  # as many as 2 MB pages would make
        assert use["held"] - use["freed"] > 60 * 2**20


def test_other_c_libraries_are_left_alone(monkeypatch):
    def load(name: object) -> None:
        raise AssertionError("nothing is to be loaded")

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory_allocator.ctypes, "CDLL", load)
    memory_allocator.keep_freed_memory()
