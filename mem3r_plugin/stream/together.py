"""Several streams through one network, side by side in one process.

Every stream has a thread that reads, saves and fails by itself. Only the network is shared: it works in
rounds, in the thread that calls `run_together`. A round begins when every stream waits for the network, so
which frames pass together depends on the streams alone and not on the clock; it goes at the pace of the
slowest.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.model import RecurrentState
from mem3r_plugin.stream.passage import Flight, NetworkPassage, Passage, StreamPassage, Stretch

T = TypeVar("T")


def run_together(
    passage: NetworkPassage, tasks: Iterable[Callable[[StreamPassage], T]], at_once: int
) -> Generator[T, None, None]:
    """Do tasks that each take a stream through the network, some of them at once.

    A task that ends makes room for the next one. Left early, this ends those that are under way with a
    `KeyboardInterrupt`, as if each were a program of its own, and waits for them.

    Args:
        passage: The network.
        tasks: Each is given its way through the network, which stays in the task's own thread.
        at_once: How many are under way at a time.

    Yields:
        What each task returned, as soon as it has ended.

    Raises:
        Exception: whatever a task raised; the others are ended.
    """
    rounds = _Rounds(passage)
    waiting = enumerate(tasks)
    results: dict[int, Future[T]] = {}
    with ThreadPoolExecutor(at_once, "mem3r-stream") as threads:
        try:
            while True:
                for number, task in islice(waiting, at_once - len(results)):
                    results[number] = threads.submit(task, rounds.enter(number))
                    results[number].add_done_callback(partial(rounds.leave, number))
                if not results:
                    return
                for number in rounds.advance():
                    yield results.pop(number).result()
        finally:
            rounds.interrupt()


@dataclass(frozen=True)
class _Request:
    """A stream that waits for the network."""

    stream: int
    stretch: Stretch
    answer: Future[list[Passage]] = field(default_factory=Future)


class _Rounds:
    """Who takes part, and who waits for the network."""

    def __init__(self, passage: NetworkPassage) -> None:
        self.passage = passage
        self.network_in_use = threading.Lock()
        self.events: SimpleQueue[_Request | int] = SimpleQueue()
        """Requests, and numbers of streams that have ended."""
        self._under_way: set[int] = set()
        self._requests: dict[int, _Request] = {}

    def enter(self, stream: int) -> StreamPassage:
        """One more stream takes part; its way through the network."""
        self._under_way.add(stream)
        return _SharedPassage(stream, self)

    def leave(self, stream: int, _: Future[Any]) -> None:
        """A stream has ended; called from its thread."""
        self.events.put(stream)

    def advance(self) -> list[int]:
        """Wait until every stream has asked for the network or ended; those that ended.

        Where none has, the network answers all of them.
        """
        ended = self._gather()
        if not ended:
            for group in self._groups():
                self._answer(group)
            self._requests.clear()
        return ended

    def interrupt(self) -> None:
        """End all streams and wait until they have."""
        while self._under_way:
            for request in self._requests.values():
                if not request.answer.done():
                    request.answer.set_exception(KeyboardInterrupt())
            self._requests.clear()
            self._gather()

    def _gather(self) -> list[int]:
        ended = []
        while len(self._requests) < len(self._under_way):
            event = self.events.get()
            if isinstance(event, _Request):
                self._requests[event.stream] = event
            else:
                self._under_way.remove(event)
                ended.append(event)
        return sorted(ended)

    def _groups(self) -> Iterable[list[_Request]]:
        """The requests by the size of their pictures."""
        groups: dict[tuple[int, ...], list[_Request]] = defaultdict(list)
        for _, request in sorted(self._requests.items()):
            groups[request.stretch.pictures[0].shape].append(request)
        return groups.values()

    def _answer(self, group: Sequence[_Request]) -> None:
        try:
            with self.network_in_use:
                answers = self.passage.take_together([request.stretch for request in group])
        except Exception as error:
            for request in group:
                request.answer.set_exception(_explained(error, len(group)))
        else:
            for request, answer in zip(group, answers, strict=True):
                request.answer.set_result(answer)


def _explained(error: Exception, streams: int) -> Exception:
    """The same, or what to do where the device has no room."""
    if streams > 1 and isinstance(error, torch.cuda.OutOfMemoryError):
        return ConfigError(
            f"the GPU has no room for {streams} scans together: give a smaller number; the same command then "
            "goes on from the last checkpoints"
        )
    return error


class _SharedPassage:
    """One stream's way through the network that all share."""

    def __init__(self, stream: int, rounds: _Rounds) -> None:
        self._stream = stream
        self._rounds = rounds
        self.network = rounds.passage.network
        self.device = rounds.passage.device
        self.precision = rounds.passage.precision

    def initial_state(self) -> RecurrentState:
        """The state before the first frame and after a reset."""
        return self._rounds.passage.initial_state()

    def take(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> list[Passage]:
        """Frames one after the other, from `state` on, once all streams wait for the network."""
        request = _Request(self._stream, Stretch(state, pictures))
        self._rounds.events.put(request)
        return request.answer.result()

    def begin(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> Flight:
        """What `take` does; it waits for its round on landing."""
        return Flight(state, None, partial(self.take, state, pictures))

    def again(self, tokens: Tensor, size: tuple[int, int]) -> Passage:
        """A frame that was encoded before, from the initial state; it waits for no round."""
        with self._rounds.network_in_use:
            return self._rounds.passage.again(tokens, size)
