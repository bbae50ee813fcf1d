"""Two computations that do not need each other, each on half of the processor.

Matrix products of the decoders' size do not keep more than one core busy: split between cores they take twice
as long as the same products side by side. They do not fill a GPU either; there a CUDA graph can hold them as
two branches, which costs nothing when it is replayed.
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
    """The results of both; side by side on a CPU's threads in inference mode, and in CUDA graphs.

    Elsewhere, and on one thread, one after the other.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return _as_branches(first, second, device)
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


def _as_branches(
    first: Callable[[], A], second: Callable[[], B], device: torch.device
) -> tuple[A, B]:
    """Both recorded as branches that start and end together.

    Each stream's memory is used again in its own order only. That is safe, because what one branch leaves to
    the other is read before the next start or after the next end, where they wait for each other.
    """
    here, beside = torch.cuda.current_stream(device), _second_stream(device)
    beside.wait_stream(here)
    one = first()
    with torch.cuda.stream(beside):
        other = second()
    here.wait_stream(beside)
    return one, other


@lru_cache(maxsize=8)
def _second_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


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
