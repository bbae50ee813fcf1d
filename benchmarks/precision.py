"""The default precision against float32 on a real clip: how far poses and depth come apart, and drift.

    .venv/bin/python benchmarks/precision.py
    .venv/bin/python benchmarks/precision.py --model mem3r --frames 20

The difference of two poses is the largest of their matrices' numbers, beside the length of the translation
where that is above one; that of depths is beside the distance of the point, its median is over the pixels of
a frame. Models without bundled weights get random ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from mem3r_plugin.model import ReconstructionNetwork, load_rule
from mem3r_plugin.model.precision import (
    MAX_DEPTH_ERROR,
    MAX_POSE_ERROR,
    Precision,
    choose_precision,
)
from mem3r_plugin.model.weights import RANDOM, bundled_weights, load_network
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.passage import Answer, NetworkPassage
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.source import open_source
from mem3r_plugin.stream.window import window_size

AT = (20, 200)
"""Numbers of frames after which differences are told, beside the last one."""
SHORT = 20
"""Frames up to which the bars of the trial hold; beyond, twice as much is allowed."""


@dataclass(frozen=True)
class Options:
    """Compare a network's answers in two precisions."""

    model: str = "mem3r-tiny"
    """Name of a preset, or a YAML file."""
    frames: int = 200
    """How many frames of the clip to take."""
    precision: Precision = "auto"
    """What is compared with float32."""
    update: str = "ttt3r"
    """How the state is updated."""
    size: int | None = None
    """Long side of the network's pictures; by default what the model was trained on."""
    clip: Path = Path("../shared/data/rgbd_7scenes_redkitchen/rgb")
    """Video or folder of pictures."""


def main(options: Options) -> None:
    """Print a row for every number of frames in `AT`, and for all."""
    weights = None if options.model in bundled_weights() else RANDOM
    network = load_network(options.model, weights)
    precision = choose_precision(network, options.precision)
    if precision == "float32":
        raise SystemExit(f"{options.model} runs in float32 here: there is nothing to compare")
    exact = list(answers(network, options, "float32"))
    rough = list(answers(network, options, precision))
    pose, depth = differences(exact, rough)
    print(f"{options.model}, {options.update}, {options.clip}: {precision} against float32")
    print("frames  pose largest  pose median  depth there  depth worst")
    for count in sorted({*(at for at in AT if at < len(exact)), len(exact)}):
        print(
            f"{count:6}  {pose[:count].max():12.2e}  {np.median(pose[:count]):11.2e}  "
            f"{depth[count - 1]:11.2e}  {depth[:count].max():11.2e}  {verdict(pose[:count], depth[:count])}"
        )


def answers(
    network: ReconstructionNetwork, options: Options, precision: Precision
) -> Iterator[Answer]:
    """Poses and points of the clip's frames; `network` is left converted to `precision`."""
    passage = NetworkPassage(network, load_rule(options.update), precision)
    preprocess = Preprocessor.of(network.config, options.size)
    frames = open_source(options.clip, max_frames=options.frames).frames()
    pictures = [preprocess(frame.image)[0] for frame in frames if isinstance(frame, Frame)]
    state, window = passage.initial_state(), window_size(pictures[0].shape[:2])
    for start in range(0, len(pictures), window):
        for passed in passage.take(state, pictures[start : start + window]):
            if passed.answer is None:
                raise SystemExit(f"{options.model} gave no finite answer in {precision}")
            state = passed.state
            yield passed.answer


def differences(
    exact: list[Answer], rough: list[Answer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The difference of the poses, and the median one of the depths, frame by frame."""
    pose, depth = [], []
    for one, other in zip(exact, rough, strict=True):
        length = max(1.0, float(np.linalg.norm(one.pose[:3, 3])))
        pose.append(np.abs(other.pose - one.pose).max() / length)
        distance = np.linalg.norm(one.points, axis=-1)
        depth.append(np.median(np.abs(other.points[..., 2] - one.points[..., 2]) / distance))
    return np.array(pose), np.array(depth)


def verdict(pose: NDArray[np.float64], depth: NDArray[np.float64]) -> str:
    """Whether the bars hold of these frames."""
    slack = 1 if len(pose) <= SHORT else 2
    holds = pose.max() <= slack * MAX_POSE_ERROR and depth.max() <= slack * MAX_DEPTH_ERROR
    return f"{'within' if holds else 'BEYOND'} {slack} x (pose {MAX_POSE_ERROR}, depth {MAX_DEPTH_ERROR})"


if __name__ == "__main__":
    main(tyro.cli(Options))
