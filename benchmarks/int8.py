"""Would int8 pay on this CPU? Linear layers in int8 beside bfloat16: speed, and distance from float32.

    .venv/bin/python benchmarks/int8.py
    .venv/bin/python benchmarks/int8.py --model mem3r-tiny --frames 20

The layers are oneDNN's, as `torch.compile` would call them: weights with a scale for each output channel,
tokens with one of their own at every call, bias and GELU done with the product, results in bfloat16. All else
is as in bfloat16. Models without bundled weights get random ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from precision import differences, verdict
from torch import Tensor, nn

from mem3r_plugin.model import ReconstructionNetwork, load_rule
from mem3r_plugin.model.blocks import MLP
from mem3r_plugin.model.precision import Precision, convert
from mem3r_plugin.model.weights import RANDOM, bundled_weights, load_network
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.passage import Answer, NetworkPassage
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.source import open_source
from mem3r_plugin.stream.stages import StageClock
from mem3r_plugin.stream.window import window_size

PARTS = {"encoder": "image_encoder.", "decoders": "decoder."}
"""What is brought to int8, one after the other."""


@dataclass(frozen=True)
class Options:
    """Compare int8 with bfloat16."""

    model: str = "mem3r"
    """Name of a preset, or a YAML file."""
    frames: int = 6
    """How many frames of the clip to take."""
    clip: Path = Path("../shared/data/rgbd_7scenes_redkitchen/rgb")
    """Video or folder of pictures."""


class Int8Linear(nn.Module):
    """What `linear` computes, followed by a GELU if wanted, its matrix product in int8."""

    def __init__(self, linear: nn.Linear, *, gelu: bool) -> None:
        super().__init__()
        weight, self._bias = linear.weight.detach(), linear.bias.detach().clone()
        self._scale = weight.abs().amax(dim=1).clamp_min(1e-12) / 127
        whole = (weight / self._scale[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(whole, None)
        self._zero = torch.zeros(len(weight), dtype=torch.int32)
        self._activation = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., in) to (..., out) in bfloat16."""
        flat = tokens.float().flatten(0, -2)
        least, most = (value.item() for value in flat.aminmax())
        scale = max(most - least, 1e-12) / 255
        zero = min(255, max(0, round(-least / scale)))
        whole = torch.quantize_per_tensor(flat, scale, zero, torch.quint8).int_repr()
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, scale, zero, self._weight, self._scale, self._zero, self._bias, 1.0, 0,
            torch.bfloat16, *self._activation,
        )  # fmt: skip
        return product.unflatten(0, tokens.shape[:-1])


def int8_layers(network: ReconstructionNetwork) -> dict[str, Int8Linear]:
    """Layers by name, made of a network in float32."""
    modules = dict(network.named_modules())
    return {
        name: Int8Linear(module, gelu=name.endswith("fc1") and isinstance(modules[name[:-4]], MLP))
        for name, module in modules.items()
        if isinstance(module, nn.Linear) and ".blocks." in name.replace("_blocks", ".blocks")
        if name.startswith(tuple(PARTS.values()))
    }


def measure(
    network: ReconstructionNetwork, precision: Precision, pictures: list[NDArray[np.uint8]]
) -> tuple[list[Answer], str]:
    """The network's answers, and what the stages took after the first window."""
    clock = StageClock()
    passage = NetworkPassage(network, load_rule("ttt3r"), precision, clock)
    state, window, told = passage.initial_state(), window_size(pictures[0].shape[:2]), []
    for start in range(0, len(pictures), window):
        if start == window:
            clock.seconds.clear()
        for passed in passage.take(state, pictures[start : start + window]):
            assert passed.answer is not None, "no finite answer"
            state = passed.state
            told.append(passed.answer)
    frames = len(pictures) - window
    stages = (f"{name} {1e3 * clock.seconds[name] / frames:.1f}" for name in ("encode", "recur"))
    return told, f"{', '.join(stages)} ms a frame"


def tell(name: str, took: str, exact: Iterable[Answer], rough: Iterable[Answer]) -> None:
    """One line of the result."""
    pose, depth = differences(list(exact), list(rough))
    print(
        f"{name:14} {took}; apart: pose {pose.max():.1e}, depth {depth.min():.1e} to {depth.max():.1e}, "
        f"{verdict(pose, depth)}",
        flush=True,
    )


def main(options: Options) -> None:
    """Print what stages take, and how far answers are from float32."""
    network = load_network(options.model, None if options.model in bundled_weights() else RANDOM)
    frames = open_source(options.clip, max_frames=options.frames).frames()
    preprocess = Preprocessor.of(network.config)
    pictures = [preprocess(frame.image)[0] for frame in frames if isinstance(frame, Frame)]
    exact, took = measure(network, "float32", pictures)
    print(f"{options.model}, {len(pictures)} frames\n{'float32':14} {took}", flush=True)
    layers = int8_layers(network)
    convert(network, "bfloat16")
    rough, took = measure(network, "bfloat16", pictures)
    tell("bfloat16", took, exact, rough)
    for part, prefix in PARTS.items():
        for name, layer in layers.items():
            if name.startswith(prefix):
                network.set_submodule(name, layer)
        rough, took = measure(network, "bfloat16", pictures)
        tell(f"and {part}", took, exact, rough)


if __name__ == "__main__":
    main(tyro.cli(Options))
