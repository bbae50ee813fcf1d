"""Two computations that do not need each other, each on half of the processor.

Matrix products of the decoders' size do not keep more than one core busy: split between cores they take twice
as long as the same products side by side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


def side_by_side(
    first: Callable[[], A], second: Callable[[], B], device: torch.device
) -> tuple[A, B]:
    """The results of both; one after the other outside inference mode, on a GPU, or on one thread."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads < 2 or not torch.is_inference_mode_enabled():
        return first(), second()
    lower = torch.is_autocast_enabled("cpu")
    workers = _workers(os.getpid(), threads)
    one = workers.submit(_do, first, lower)
    other = workers.submit(_do, second, lower)
    return one.result(), other.result()


def _do(work: Callable[[], A], lower: bool) -> A:
    """Work in a thread of its own, which inherits neither inference mode nor autocast."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
        return work()


@lru_cache(maxsize=1)
def _workers(process: int, threads: int) -> ThreadPoolExecutor:
    """Two threads that share `threads` cores; of this process, since threads do not survive a fork."""
    del process
    both = threading.Barrier(2)

    def begin() -> None:
        # The first question, or operation, of a thread sets it to the default: it must not come later.
        torch.get_num_threads()
        torch.set_num_threads(threads // 2)
        both.wait()

    workers = ThreadPoolExecutor(2, thread_name_prefix="mem3r-half")
    for future in [workers.submit(begin) for _ in range(2)]:
        future.result()
    torch.set_num_threads(threads)  # the default of threads that are yet to come
    return workers
