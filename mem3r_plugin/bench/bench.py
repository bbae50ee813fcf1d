"""One run of the front end into a scan, timed stage by stage."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mem3r_plugin.bench.peaks import attention_peak, matmul_peak, plain_matmul_peak
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.machine import describe_machine
from mem3r_plugin.model import NetworkConfig, ReconstructionNetwork
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.precision import Precision
from mem3r_plugin.model.weights import RANDOM, bundled_weights, network_config
from mem3r_plugin.stream.estimate import FrameEstimate
from mem3r_plugin.stream.front_end import pick_device
from mem3r_plugin.stream.preprocess import four_by_three
from mem3r_plugin.stream.run import RunConfig, run
from mem3r_plugin.stream.stages import StageClock
from mem3r_plugin.stream.window import window_size

MEMORY_AT = (100, 500, 1000, 5000)
"""Frames after which memory is looked at."""
READ_AHEAD = ("decode", "preprocess")
"""Stages that are done for many frames before the first one of them is through; they need no warm-up."""
WARM_UP_WINDOWS = 2
"""Windows of frames that do not count; whole ones, so that no stage is counted in part."""
STRETCHES = 10
"""Parts of the run whose speeds are compared."""


@dataclass(frozen=True)
class BenchConfig:
    """Measure frames a second, where the time goes, memory, and the share of the machine's peak."""

    model: str = "mem3r-tiny"
    """Name of a preset, or a YAML file."""
    weights: str | None = None
    """Bundled name, file or `random`; by default the bundled ones, or random weights where none are."""
    size: str | None = None
    """Width and height of the network's pictures, like 512x384; by default what it was trained on, at 4:3."""
    update: str = "ttt3r"
    """How the state is updated."""
    precision: Precision = "auto"
    """Arithmetic of the network."""
    frames: int = 100
    """How many frames to take, after a few to warm up."""
    source: str | None = None
    """A video or folder of pictures to read; by default made-up pictures that cost nothing to read."""
    device: str | None = None
    """Where the network runs; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ConfigError: no size, or too few frames.
        """
        sides = (self.size or f"{PATCH}x{PATCH}").split("x")
        if len(sides) != 2 or not all(
            s.isdigit() and int(s) and int(s) % PATCH == 0 for s in sides
        ):
            raise ConfigError(
                f"size is {self.size!r}: give width and height as multiples of {PATCH}, like 512x384"
            )
        if self.frames < 1:
            raise ConfigError(f"frames is {self.frames}, it must be at least 1")

    def picture_size(self, network: NetworkConfig) -> tuple[int, int]:
        """Width and height of the pictures."""
        if self.size is None:
            return four_by_three(network.picture_size)
        width, height = map(int, self.size.split("x"))
        return width, height


@dataclass
class Meter:
    """A sink that notes when frames come and how much memory there is in use."""

    clock: StageClock
    """Reset when the warm-up is over, except for what is read ahead."""
    warm_up: int
    """Frames that do not count."""
    times: list[float] = field(default_factory=list)
    """Seconds at which the frames from the last one of the warm-up on were written."""
    memory: list[dict[str, float]] = field(default_factory=list)
    """Peak memory after some numbers of frames."""
    _seen: int = 0

    def open(self) -> None:
        """Begin."""

    def write(self, estimate: FrameEstimate) -> None:
        """One more frame."""
        self._seen += 1
        if self._seen == self.warm_up:
            for stage in self.clock.seconds.keys() - READ_AHEAD:
                del self.clock.seconds[stage]
            self.clock.replays = 0
        if self._seen >= self.warm_up:
            self.times.append(time.perf_counter())
        if self._seen - self.warm_up in MEMORY_AT:
            self.memory.append({"frames": self._seen - self.warm_up, **peak_memory()})

    def stages_ms(self) -> dict[str, float]:
        """Milliseconds a frame of every stage."""
        measured = len(self.times) - 1
        return {
            stage: 1e3 * seconds / (self._seen if stage in READ_AHEAD else measured)
            for stage, seconds in self.clock.seconds.items()
        }

    def close(self, complete: bool) -> None:
        """End."""
        del complete
        if not self.memory or self.memory[-1]["frames"] < len(self.times) - 1:
            self.memory.append({"frames": len(self.times) - 1, **peak_memory()})


def bench(config: BenchConfig) -> dict[str, Any]:
    """Run and measure; a dictionary for JSON.

    `frames_per_second` has the median and the quartiles over stretches of the run; `stages_ms` milliseconds
    a frame, of which decode, preprocess and sinks happen beside the others, and on a GPU all do;
    `replayed_share` is that of frames whose recurrent step was a CUDA graph replayed; `share_of_matmul_peak`
    what the network's arithmetic makes, at the median speed, of the fastest matrix product in the same
    format, measured before and after the run; `share_of_matmul_and_attention_peak` how much of the time would
    do if attention ran at the speed of attention by itself and the rest at that of the matrix product.
    `plain_matmul_float32` is the speed of torch's own matrix product in float32, which other implementations
    run on, to compare machines by; on some processors it is half of what the machine can do.

    Raises:
        Mem3RError: the model, weights, source or device cannot be used, or the source is too short.
    """
    device = pick_device(config.device)
    name = load_preset("model", config.model, NetworkConfig()).name
    weights = config.weights or (name if name in bundled_weights() else RANDOM)
    network = network_config(config.model, weights)
    size = config.picture_size(network)
    clock = StageClock()
    meter = Meter(clock, warm_up=WARM_UP_WINDOWS * window_size((size[1], size[0])))
    with tempfile.TemporaryDirectory(prefix="mem3r-bench-") as folder:
        options = RunConfig(
            source=config.source or "made-up pictures",
            output=Path(folder) / "scan",
            model=config.model,
            weights=weights,
            update=config.update,
            size=max(size),
            precision=config.precision,
            device=config.device,
            max_frames=config.frames + meter.warm_up,
        )
        before = _peaks(device)
        pictures = None if config.source else made_up_pictures(size, config.frames + meter.warm_up)
        scan = run(options, source=pictures, sinks=[meter], silent=True, clock=clock)
        if len(meter.times) < 2:
            raise SourceError(
                f"{config.source} has {len(scan)} usable frames: more than {meter.warm_up} are needed"
            )
        after = _peaks(device)
        precision = scan.header.settings["precision"]
        operations = operations_per_frame(network, scan.transform.target_size)
    peak = {name: max(before[name], after[name]) for name in before}
    matmul, attention = (peak[f"{name}_{precision}"] for name in ("matmul", "attention"))
    width, height = scan.transform.target_size
    speed = frames_per_second(np.array(meter.times), window_size((height, width)))
    return {
        "settings": {
            **asdict(config),
            "size": f"{width}x{height}",
            "weights": weights,
            "precision": precision,
        },
        "machine": describe_machine(),
        "frames": len(meter.times) - 1,
        "frames_per_second": speed,
        "stages_ms": meter.stages_ms(),
        "replayed_share": clock.replays / (len(meter.times) - 1),
        "operations_per_frame": operations.total,
        "attention_operations_per_frame": operations.attention,
        "peak": peak,
        "plain_matmul_float32": plain_matmul_peak(device, torch.float32),
        "share_of_matmul_peak": speed["median"] * operations.total / matmul,
        "share_of_matmul_and_attention_peak": speed["median"]
        * ((operations.total - operations.attention) / matmul + operations.attention / attention),
        "memory": meter.memory,
    }


def frames_per_second(times: NDArray[np.float64], window: int = 1) -> dict[str, float]:
    """Median and quartiles of the speed over stretches of the frames written at `times`.

    Args:
        times: seconds, one a frame and one before the first.
        window: frames that come at once; stretches are multiples of it.
    """
    frames = len(times) - 1
    stretch = window * max(1, frames // (STRETCHES * window))
    marks = np.arange(0, frames + 1, min(stretch, frames))
    speeds = np.diff(marks) / np.diff(times[marks])
    lower, median, upper = (float(speed) for speed in np.percentile(speeds, [25, 50, 75]))
    whole = float(frames / (times[-1] - times[0]))
    return {"median": median, "lower": lower, "upper": upper, "whole": whole}


@dataclass(frozen=True)
class Operations:
    """Floating-point operations."""

    total: int
    """Of matrix products, convolutions and attention."""
    attention: int
    """Of attention among them: queries with keys, and weights with values."""


def operations_per_frame(config: NetworkConfig, size: tuple[int, int]) -> Operations:
    """What a step with pose and depth takes, pictures of `size` = (width, height)."""
    with torch.device("meta"):
        network = ReconstructionNetwork(config).eval()
        pictures = torch.empty(1, 3, size[1], size[0])
        state = network.initial_state()
        with FlopCounterMode(display=False) as counter, _AttentionCounter() as attention:
            network.step(state, network.encode(pictures), (size[1], size[0]))
    return Operations(int(counter.get_total_flops()), attention.operations)


class _AttentionCounter(TorchFunctionMode):
    """Counts what fused attention does while it is entered."""

    operations = 0

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        if func is scaled_dot_product_attention:
            self.operations += sdpa_flop_count(*(each.shape for each in args))
        return func(*args, **(kwargs or {}))


def made_up_pictures(size: tuple[int, int], count: int) -> Iterator[NDArray[np.uint8]]:
    """A camera panning over a random texture; pictures (height, width, 3) of `size` = (width, height)."""
    width, height = size
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 32, 3), dtype=np.uint8)
    wall = cv2.resize(coarse, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    for index in range(count):
        left = abs(index % (2 * width) - width)
        yield np.ascontiguousarray(wall[:, left : left + width])


def peak_memory() -> dict[str, float]:
    """Most megabytes in use until now, of this process and of its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    memory = {"host_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        memory["device_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return memory


def _peaks(device: torch.device) -> dict[str, float]:
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return {
        f"{name}_{label}": peak(device, dtype)
        for label, dtype in formats.items()
        for name, peak in (("matmul", matmul_peak), ("attention", attention_peak))
    }
