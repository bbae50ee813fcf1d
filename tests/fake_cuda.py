"""CUDA faked on a CPU: streams that detect races, and graphs that replay what was recorded.

Work is done at once, but its order is judged as a GPU's would be: whoever reads what another stream wrote
must have waited for it, and must have asked for its memory to be kept (`record_stream`). A graph is the list
of operations seen while it was recorded; replaying does them again on the same tensors, without what the host
does in between, as on a GPU. What only a GPU can show, it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_leaves

from mem3r_plugin.model import precision

Clock = dict[int, int]


class FakeStream:
    """Knows how far it has come, and how far those it waited for had come then."""

    def __init__(self, device: object = None, priority: int = 0) -> None:
        self.priority = priority
        self.clock: Clock = {id(self): 0}

    def wait_stream(self, other: FakeStream) -> None:
        self.wait(other.clock)

    def wait(self, clock: Clock) -> None:
        for stream, tick in clock.items():
            self.clock[stream] = max(tick, self.clock.get(stream, 0))


class FakeEvent:
    """A moment of a stream; waiting for it lets the host know of what came before."""

    def __init__(self, fake: FakeCuda) -> None:
        self._fake = fake
        self.moment: Clock = {}

    def record(self, stream: FakeStream) -> None:
        self.moment = dict(stream.clock)

    def synchronize(self) -> None:
        self._fake.waits += 1
        self._fake.host.wait(self.moment)

    def elapsed_time(self, end: FakeEvent) -> float:
        assert end.moment.items() >= self.moment.items() or end.moment != self.moment
        return 2.0


class FakeGraph:
    """Operations with the very tensors they read and wrote."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        for function, args, kwargs, result in self.operations:
            again = function(*args, **kwargs)
            for place, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(place, Tensor) and place is not value:
                    place.copy_(value)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing\nand more lines")
        result = func(*args, **(kwargs or {}))
        self.graph.operations.append((func, args, kwargs or {}, result))
        return result


class _RaceDetector(TorchDispatchMode):
    def __init__(self, fake: FakeCuda) -> None:
        super().__init__()
        self.fake = fake

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        stream = self.fake.current
        read = [tensor for tensor in tree_iter((args, kwargs)) if isinstance(tensor, Tensor)]
        for tensor in read:
            self.fake.require_readable(tensor, stream, str(func))
        result = func(*args, **(kwargs or {}))
        stream.clock[id(stream)] += 1
        views = set() if func._schema.is_mutable else {_place(tensor) for tensor in read}
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and _place(tensor) not in views:
                self.fake.wrote(tensor, stream)
        return result


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class FakeCuda:
    """What stands in the place of `torch.cuda`."""

    def __init__(self) -> None:
        self.host = FakeStream()
        """What the host knows to be done; it queues nothing itself."""
        self.default = FakeStream()
        self.current = self.default
        self.streams: list[FakeStream] = []
        self.graphs: list[FakeGraph] = []
        self.waits = 0
        """How often the host waited."""
        self.capturing = False
        self._writers: dict[int, tuple[FakeStream, int, Tensor]] = {}
        self._kept_for: dict[int, set[int]] = {}

    def make_stream(self, device: object = None, priority: int = 0) -> FakeStream:
        self.streams.append(FakeStream(device, priority))
        return self.streams[-1]

    @contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def record(
        self, graph: FakeGraph, pool: object, stream: FakeStream, capture_error_mode: str
    ) -> Iterator[None]:
        self.waits += 1  # the real one waits for everything
        self.synchronize()
        self.graphs.append(graph)
        self.capturing = True
        try:
            with self.on(stream), _Recorder(graph):
                yield
        finally:
            self.capturing = False
            for other in self.streams:  # nothing was done yet
                other.wait_stream(stream)

    def synchronize(self, device: object = None) -> None:
        for stream in (self.default, *self.streams):
            self.host.wait_stream(stream)

    def wrote(self, tensor: Tensor, stream: FakeStream) -> None:
        # The tensor is kept, so that its address is not another one's later.
        self._writers[_place(tensor)] = (stream, stream.clock[id(stream)], tensor)

    def keep_for(self, tensor: Tensor, stream: FakeStream) -> None:
        self._kept_for.setdefault(_place(tensor), set()).add(id(stream))

    def require_readable(self, tensor: Tensor, stream: FakeStream, reader: str) -> None:
        key = _place(tensor)
        if key not in self._writers:
            return  # weights and tables, from before
        writer, tick, _ = self._writers[key]
        if writer is stream:
            return
        known = (
            stream.clock,
            self.host.clock,
        )  # what the host had waited for before it queued this
        if max(clock.get(id(writer), 0) for clock in known) < tick:
            raise AssertionError(f"race: {reader} reads what another stream may still be writing")
        lanes = self.streams[:3]
        if writer in lanes and stream in lanes and id(stream) not in self._kept_for.get(key, set()):
            raise AssertionError(f"race: {reader} reads memory that may be given away")

    def judged(self) -> TorchDispatchMode:
        """A block whose operations are judged."""
        return _RaceDetector(self)


def install(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Put a fake in the place of the real CUDA for a test."""
    fake, empty = FakeCuda(), torch.empty
    replaced = {
        "Stream": fake.make_stream,
        "Event": lambda **_: FakeEvent(fake),
        "CUDAGraph": FakeGraph,
        "stream": fake.on,
        "graph": fake.record,
        "current_stream": lambda device=None: fake.current,
        "graph_pool_handle": object,
        "synchronize": fake.synchronize,
        "is_current_stream_capturing": lambda: fake.capturing,
    }
    for name, stand_in in replaced.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, s: fake.keep_for(tensor, s))
    monkeypatch.setattr(
        torch, "empty", lambda *args, pin_memory=False, **options: empty(*args, **options)
    )
    monkeypatch.setattr(precision, "can_pack", lambda: False)  # as on a GPU
    return fake
