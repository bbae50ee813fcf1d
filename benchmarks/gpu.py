"""One GPU: windows on three streams with CUDA graphs, beside the same network run eagerly in float32.

    .venv/bin/python benchmarks/gpu.py
    .venv/bin/python benchmarks/gpu.py --model cut3r --update plain

Frames a second without reading and writing, the GPU's memory, and how far the answers come apart. Without
bundled weights the network is random. Never run yet: this was written where there is no GPU.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import tyro
from precision import differences, verdict

from mem3r_plugin.bench.bench import made_up_pictures
from mem3r_plugin.model import load_rule
from mem3r_plugin.model.precision import Precision, convert
from mem3r_plugin.model.weights import RANDOM, bundled_weights, load_network
from mem3r_plugin.stream.cuda_passage import CudaPassage
from mem3r_plugin.stream.passage import Answer, Flight, NetworkPassage
from mem3r_plugin.stream.window import window_size

DEVICE = "cuda"
SIZE = (512, 384)
WARM_UP = 4
"""Windows that do not count."""
COMPARED = 20
"""Frames whose answers are compared."""


@dataclass(frozen=True)
class Options:
    """Compare the GPU's two ways."""

    model: str = "mem3r"
    """Name of a preset, or a YAML file."""
    update: str = "ttt3r"
    """How the state is updated."""
    frames: int = 400
    """How many frames to take."""


def answers(
    options: Options, kind: type[NetworkPassage], precision: Precision
) -> Iterator[list[Answer | None]]:
    """Windows of answers; where the passage allows it, each is begun before the one before it has landed."""
    weights = None if options.model in bundled_weights() else RANDOM
    network = convert(load_network(options.model, weights, device=DEVICE), precision)
    passage = kind(network, load_rule(options.update), precision)
    pictures = list(made_up_pictures(SIZE, options.frames))
    window = window_size(SIZE[::-1])
    state, flights = passage.initial_state(), deque[Flight]()
    for start in range(0, len(pictures), window):
        flights.append(passage.begin(state, pictures[start : start + window]))
        after = flights[-1].after
        if after is None or len(flights) > 1:
            landed = flights.popleft().land()
            yield [passed.answer for passed in landed]
        state = landed[-1].state if after is None else after
    for flight in flights:
        yield [passed.answer for passed in flight.land()]


def main(options: Options) -> None:
    """Print a row for each way, and how they compare."""
    told: list[list[Answer]] = []
    speeds = []
    for kind, precision in ((NetworkPassage, "float32"), (CudaPassage, "bfloat16")):
        torch.cuda.reset_peak_memory_stats()
        seen: list[Answer] = []
        count, started = 0, 0.0
        for index, window in enumerate(answers(options, kind, precision)):
            seen += [answer for answer in window if answer is not None][: COMPARED - len(seen)]
            count += len(window) if index > WARM_UP else 0
            if index == WARM_UP:
                started = time.perf_counter()
        speeds.append(count / (time.perf_counter() - started))
        told.append(seen)
        memory = torch.cuda.max_memory_reserved() / 1e6
        print(f"{kind.__name__:15} {precision:9} {speeds[-1]:7.1f} frames/s  {memory:,.0f} MB")
        torch.cuda.empty_cache()
    print(f"{speeds[1] / speeds[0]:.2f} times as fast, on {torch.cuda.get_device_name()}")
    pose, depth = differences(*told)
    print(f"pose at most {pose.max():.1e} apart, depth {depth.max():.1e}: {verdict(pose, depth)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
