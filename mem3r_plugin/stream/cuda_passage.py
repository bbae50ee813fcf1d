"""Frames' passage through a network on a CUDA device, which the host keeps busy without waiting for it.

    host        queue k+1 | wait for k, tell k's frames    | queue k+2 | wait for k+1, …
    encoding    upload and encode k+1 |                    | upload and encode k+2 |
    recurring   recur k |             | recur k+1 |        |                       | recur k+2 |
    reading             | heads of k, download k |         | heads of k+1, download k+1 |

Each lane is a stream whose work is replayed as CUDA graphs, and the host waits once for a window of frames,
when the next is under way. This was tested on a CPU with CUDA faked and has never run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.model import ReconstructionNetwork, RecurrentState, UpdateRule
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.graphs import Graphs, Tensors
from mem3r_plugin.model.heads import FrameOutput
from mem3r_plugin.model.precision import Precision, arithmetic
from mem3r_plugin.stream.image_feature import channel_spread
from mem3r_plugin.stream.passage import (
    Flight,
    NetworkPassage,
    Passage,
    all_finite,
    answers_on_host,
)
from mem3r_plugin.stream.preprocess import centred
from mem3r_plugin.stream.stages import StageClock

LEVELS = ("middle", "late", "last")
"""The decoder's levels."""


def passage_on_device(
    network: ReconstructionNetwork,
    rule: UpdateRule,
    precision: Precision,
    clock: StageClock | None = None,
) -> NetworkPassage:
    """The passage that suits the device `network` is on."""
    on_gpu = next(network.parameters()).device.type == "cuda"
    return (CudaPassage if on_gpu else NetworkPassage)(network, rule, precision, clock)


class CudaPassage(NetworkPassage):
    """Takes windows of pictures through a network on a GPU; one can begin before another has landed.

    Args:
        network: On its device; it is converted to `precision`.
        rule: How the state is updated.
        precision: Arithmetic of the network.
        clock: Told how long the GPU works on the stages, which overlap.
    """

    def __init__(
        self,
        network: ReconstructionNetwork,
        rule: UpdateRule,
        precision: Precision = "float32",
        clock: StageClock | None = None,
    ) -> None:
        super().__init__(network, rule, precision, clock)
        self._encoding = Lane(self.device)
        self._recurring = Lane(self.device, urgent=True)  # every frame waits for the one before
        self._reading = Lane(self.device)
        torch.cuda.synchronize(self.device)  # the weights were converted on another stream

    def initial_state(self) -> RecurrentState:
        """The state before the first frame and after a reset."""
        with torch.cuda.stream(self._recurring.stream):
            return super().initial_state()

    def take(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> list[Passage]:
        """Frames one after the other, from `state` on; waits for them."""
        return self.begin(state, pictures).land()

    def again(self, tokens: Tensor, size: tuple[int, int]) -> Passage:
        """A frame that has landed, from the initial state; waits for it."""
        with torch.cuda.stream(self._recurring.stream):
            return super().again(tokens, size)

    @torch.inference_mode()
    def begin(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> Flight:
        """Queue a window of frames, from a `state` that may be under way itself."""
        height, width = pictures[0].shape[:2]
        grid = (height // PATCH, width // PATCH)
        times = Times()
        replays = self._recurring.graphs.replays
        with arithmetic(self.device, self.precision):
            with self._encoding.stage("encode", times):
                inputs = {"pictures": _staged(pictures)}
                encoded = self._encoding.graphs("encode", self._encode, inputs)
            self._recurring.take_over(encoded, self._encoding)
            with self._recurring.stage("recur", times):
                states, decoded = self._through_state(state, encoded["tokens"], grid)
            self._reading.take_over({**encoded, **decoded}, self._recurring)
            with self._reading.stage("heads", times):
                inputs = {"tokens": encoded["tokens"], **{name: decoded[name] for name in LEVELS}}
                read = self._reading.graphs(("read", grid), partial(self._read, grid), inputs)
            with self._reading.stage("transfer", times):
                told = {**read, "finite": decoded["finite"], "features": encoded["features"]}
                landing = {name: _to_host(tensor) for name, tensor in told.items()}
        replays = self._recurring.graphs.replays - replays
        land = partial(self._land, landing, times, replays, states, encoded["tokens"])
        return Flight(state, states[-1], land)

    def _encode(self, inputs: Tensors) -> Tensors:
        tokens = self.network.encode(centred(inputs["pictures"]))
        return {"tokens": tokens, "features": channel_spread(tokens)}

    def _through_state(
        self, state: RecurrentState, tokens: Tensor, grid: tuple[int, int]
    ) -> tuple[list[RecurrentState], Tensors]:
        """The states after frames one after the other, and their levels and verdicts together."""
        states, steps = [], []
        for frame_tokens in tokens.split(1):
            step = partial(self._step, state, grid)
            inputs = {"frame": frame_tokens, **state.remembered()}
            # The first frame of a scan takes another way through the network, too seldom for a graph.
            run = step if state.first else partial(self._recurring.graphs, ("recur", grid), step)
            outputs = run(inputs)
            state = RecurrentState.holding(outputs, state.frames + 1, read_first=state.read_first)
            states.append(state)
            steps.append(outputs)
        together = {name: torch.cat([outputs[name] for outputs in steps]) for name in LEVELS}
        return states, {**together, "finite": torch.cat([step["finite"] for step in steps])}

    def _step(self, state: RecurrentState, grid: tuple[int, int], inputs: Tensors) -> Tensors:
        """One frame's step from what is in `inputs`; of `state` only the counters count."""
        before = RecurrentState.holding(inputs, state.frames, read_first=state.read_first)
        recurrence, after = self.network.recur(before, inputs["frame"], grid, rule=self._rule)
        levels = dict(zip(LEVELS, recurrence.decoded.levels, strict=True))
        return {**after.remembered(), **levels, "finite": all_finite(after)}

    def _read(self, grid: tuple[int, int], inputs: Tensors) -> Tensors:
        middle, late, last = (inputs[name] for name in LEVELS)
        output = self.network.read_out(inputs["tokens"], (middle, late, last), grid)
        assert output.points_self is not None
        assert output.confidence_self is not None
        return {
            "pose": output.pose,
            "points": output.points_self,
            "confidence": output.confidence_self,
        }

    def _land(
        self,
        landing: Tensors,
        times: Times,
        replays: int,
        states: list[RecurrentState],
        tokens: Tensor,
    ) -> list[Passage]:
        """Wait until a window's answers are in the host's memory; its passages."""
        times.wait()
        for name, seconds in times.seconds():
            self._clock.add(name, seconds)
        self._clock.replays += replays
        output = FrameOutput(landing["pose"], landing["points"], landing["confidence"])
        answers = answers_on_host(output, landing["finite"])
        features = landing["features"].numpy()
        parts = zip(answers, states, tokens.split(1), features, strict=True)
        return [Passage(*passage) for passage in parts]


class Lane:
    """A stream for one kind of work, with the graphs recorded of it.

    Graphs of different lanes run at the same time, so each lane's have memory of their own.
    """

    def __init__(self, device: torch.device, *, urgent: bool = False) -> None:
        self.stream = torch.cuda.Stream(device, priority=-1 if urgent else 0)
        self.graphs = Graphs(device)

    @contextmanager
    def stage(self, name: str, times: Times) -> Iterator[None]:
        """A block whose work is queued on this lane and timed there."""
        with torch.cuda.stream(self.stream):
            begin = _event(self.stream)
            yield
            times.marks.append((name, begin, _event(self.stream)))

    def take_over(self, tensors: Tensors, giver: Lane) -> None:
        """Work on `tensors` once `giver` has finished with what it was given so far."""
        self.stream.wait_stream(giver.stream)
        for tensor in tensors.values():
            tensor.record_stream(self.stream)  # not to be overwritten before this lane is done


class Times:
    """Where the work of a window begins and ends on the lanes."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        """Stages in order, each with the events before and after it."""

    def wait(self) -> None:
        """Let the host sleep until the last stage is over; so are the others, which it followed."""
        self.marks[-1][2].synchronize()

    def seconds(self) -> Iterator[tuple[str, float]]:
        """Every stage's time, once waited for."""
        for name, begin, end in self.marks:
            yield name, begin.elapsed_time(end) / 1e3


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """A mark at the end of what `stream` is given so far."""
    event = torch.cuda.Event(enable_timing=True, blocking=True)
    event.record(stream)
    return event


def _staged(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures (frames, h, w, 3) as bytes in pinned memory, from where they go up without the host."""
    staged = torch.empty((len(pictures), *pictures[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(pictures, out=staged.numpy())
    return staged


def _to_host(tensor: Tensor) -> Tensor:
    """A copy in pinned memory, complete once the current stream has come to it."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
