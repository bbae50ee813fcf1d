"""The default precision against float32 on a real clip: how far poses and depth come apart, and drift.

    .venv/bin/python benchmarks/precision.py
    .venv/bin/python benchmarks/precision.py --model mem3r --frames 20

Both go the whole way of the front end. The difference of two poses is the largest of their matrices' numbers,
beside the length of the translation where that is above one; that of two depths is relative, its median is
over the pixels of a frame. Models without bundled weights get random ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from mem3r_plugin.model.precision import MAX_DEPTH_ERROR, MAX_POSE_ERROR, Precision
from mem3r_plugin.model.weights import RANDOM, bundled_weights
from mem3r_plugin.stream.front_end import FrontEnd
from mem3r_plugin.stream.source import open_source

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


@dataclass(frozen=True)
class Answer:
    """What is compared of one frame."""

    pose: NDArray[np.float64]
    """Camera to world, shape (4, 4)."""
    depth: NDArray[np.float32]
    """Shape (h, w); 0 where there is none."""


def main(options: Options) -> None:
    """Print a row for every number of frames in `AT`, and for all."""
    compared = front_end(options, options.precision)
    if compared.precision == "float32":
        raise SystemExit(f"{options.model} runs in float32 here: there is nothing to compare")
    print(
        f"{options.model}, {options.update}, {options.clip}: {compared.precision} against float32"
    )
    rough = list(answers(compared, options))
    del compared  # two full-size networks at once would need 4 GB
    exact = list(answers(front_end(options, "float32"), options))
    pose, depth = differences(exact, rough)
    print("frames  pose largest  pose median  depth there  depth worst")
    for count in sorted({*(at for at in AT if at < len(exact)), len(exact)}):
        print(
            f"{count:6}  {pose[:count].max():12.2e}  {np.median(pose[:count]):11.2e}  "
            f"{depth[count - 1]:11.2e}  {depth[:count].max():11.2e}  {verdict(pose[:count], depth[:count])}"
        )


def front_end(options: Options, precision: Precision) -> FrontEnd:
    """One that answers in `precision`."""
    weights = None if options.model in bundled_weights() else RANDOM
    return FrontEnd.from_pretrained(
        options.model,
        weights=weights,
        update=options.update,
        size=options.size,
        precision=precision,
    )


def answers(front_end: FrontEnd, options: Options) -> Iterator[Answer]:
    """Poses and depth of the clip's frames."""
    for estimate in front_end.stream(open_source(options.clip, max_frames=options.frames)):
        yield Answer(estimate.camera_to_world, estimate.depth)


def differences(
    exact: list[Answer], rough: list[Answer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The difference of the poses, and the median one of the depths, frame by frame."""
    pose, depth = [], []
    for one, other in zip(exact, rough, strict=True):
        length = max(1.0, float(np.linalg.norm(one.pose[:3, 3])))
        pose.append(np.abs(other.pose - one.pose).max() / length)
        known = (one.depth > 0) & (other.depth > 0)
        depth.append(np.median(np.abs(other.depth[known] / one.depth[known] - 1)))
    return np.array(pose), np.array(depth)


def verdict(pose: NDArray[np.float64], depth: NDArray[np.float64]) -> str:
    """Whether the bars hold of these frames."""
    slack = 1 if len(pose) <= SHORT else 2
    holds = pose.max() <= slack * MAX_POSE_ERROR and depth.max() <= slack * MAX_DEPTH_ERROR
    return f"{'within' if holds else 'BEYOND'} {slack} x (pose {MAX_POSE_ERROR}, depth {MAX_DEPTH_ERROR})"


if __name__ == "__main__":
    main(tyro.cli(Options))
