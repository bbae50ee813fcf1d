"""Functions of tensors replayed as CUDA graphs: one launch in place of some hundreds.

A step of the network is many small kernels; launching them one by one takes a GPU's host longer than the GPU
takes to compute them. A graph remembers the launches, and the addresses they read and write, so inputs are
copied to where it reads and results away from where it writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

MAX_GRAPHS = 4
"""Graphs kept at most; each holds memory of its own, and pictures of many sizes would make many."""
WARM_UPS = 3
"""Runs before a recording: libraries choose kernels and set up workspaces, which must not be recorded."""

_log = logging.getLogger(__name__)


class Graphs:
    """Calls functions, and records and replays what comes again.

    A call is run as it is when it comes for the first time, recorded the second time, and replayed from then
    on; so what comes once is never recorded, and what is made once (rotary tables) is there before. A
    function that cannot be recorded, because it asks the GPU for a value on the way, and any beyond
    `MAX_GRAPHS`, is always run as it is.

    Calls must come from one thread, on one stream: all graphs share their memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[Hashable, _Graph] = {}
        self._seen: set[Hashable] = set()
        self._as_it_is: set[Hashable] = set()
        self.replays = 0
        """How many calls were replays."""

    def __call__(
        self, name: Hashable, function: Callable[[Tensors], Tensors], inputs: Tensors
    ) -> Tensors:
        """What `function` makes of `inputs`, queued on the current stream.

        Args:
            name: All that decides what the function does beside names, shapes and formats of its inputs.
            function: Works on the GPU only, and keeps nothing between calls.
            inputs: On the GPU, or on the host in pinned memory.
        """
        described = ((key, t.shape, t.dtype) for key, t in inputs.items())
        call = (name, *described)
        if call in self._seen and call not in self._graphs and call not in self._as_it_is:
            self._record(call, function, inputs)
        self._seen.add(call)
        if call not in self._graphs:
            return function(
                {key: t.to(self._device, non_blocking=True) for key, t in inputs.items()}
            )
        self.replays += 1
        return self._graphs[call].replay(inputs)

    def _record(
        self, call: Hashable, function: Callable[[Tensors], Tensors], inputs: Tensors
    ) -> None:
        """Record a call, or note that it is to be run as it is."""
        if len(self._graphs) < MAX_GRAPHS:
            try:
                # An interrupted recording would leave its own stream behind.
                with torch.cuda.stream(torch.cuda.current_stream(self._device)):
                    self._graphs[call] = _record(function, inputs, self._device, self._pool)
                return
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                _log.warning("no CUDA graph, so slower than it could be: %s", reason)
        self._as_it_is.add(call)


@dataclass(frozen=True)
class _Graph:
    """A recorded call."""

    graph: torch.cuda.CUDAGraph
    """The launches."""
    inputs: Tensors
    """Where it reads."""
    outputs: Tensors
    """Where it writes."""

    def replay(self, inputs: Tensors) -> Tensors:
        """Results of its own for other inputs."""
        for name, place in self.inputs.items():
            place.copy_(inputs[name], non_blocking=True)
        self.graph.replay()
        return {name: place.clone() for name, place in self.outputs.items()}


def _record(
    function: Callable[[Tensors], Tensors], inputs: Tensors, device: torch.device, pool: Any
) -> _Graph:
    """The graph of a call.

    Raises:
        RuntimeError: it does what cannot be recorded, or the GPU's memory is full.
    """
    places = {
        name: torch.empty(t.shape, dtype=t.dtype, device=device) for name, t in inputs.items()
    }
    for name, place in places.items():
        place.copy_(inputs[name], non_blocking=True)
    current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            function(places)
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Sinks may use the GPU from threads of their own meanwhile, which is no fault of this recording.
    with torch.cuda.graph(graph, pool, side, capture_error_mode="thread_local"):
        outputs = function(places)
    return _Graph(graph, places, outputs)
