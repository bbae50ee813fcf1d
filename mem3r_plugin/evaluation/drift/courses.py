"""What contestants run over: held-back worlds and real sequences, in one form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.evaluation.layouts import load_sequence
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.stream.images import read_image
from mem3r_plugin.stream.preprocess import Preprocessor, four_by_three
from mem3r_plugin.training.validation import FAR
from mem3r_plugin.training.worlds import HELD_BACK, KINDS, Kind, sample_sequence

FIRST_SEED = HELD_BACK + 500_000
"""Worlds from here on, which validation during training does not look at."""
STRIDE = 4
"""Depth is compared at every so manieth pixel of the network's picture in x and y."""
GRID = np.s_[..., STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
"""These pixels of a map (..., height, width)."""
DEPTH_EVERY = 4
"""Depth is compared in every so manieth frame."""


@dataclass(frozen=True, eq=False)
class Course:
    """N pictures and the truth about them, of M of them at P pixels each."""

    name: str
    """What it is called."""
    images: Callable[[], Iterator[NDArray[np.uint8]]]
    """Starts anew with the pictures, RGB (height, width, 3)."""
    camera_to_world: NDArray[np.float64]
    """Poses (N, 4, 4), OpenCV axes; NaN where unknown."""
    points: NDArray[np.float32] | None
    """Points (M, P, 3) seen at the pixels of `GRID` by every `DEPTH_EVERY`-th camera, in its frame; NaN where
    unknown. None for a course without depth."""
    camera: Intrinsics
    """The camera at network size."""

    def __len__(self) -> int:
        return len(self.camera_to_world)

    @property
    def size(self) -> list[int]:
        """Width and height of the network's pictures."""
        return [self.camera.width, self.camera.height]

    def digest(self) -> str:
        """Tells courses apart that have one name but not the same pictures and truth."""
        whole = hashlib.sha256(self.camera_to_world.tobytes())
        whole.update(next(self.images()).tobytes())
        whole.update(b"" if self.points is None else self.points.tobytes())
        return whole.hexdigest()[:16]


class Plan(Protocol):
    """A course that is rendered or read only when somebody runs over it."""

    @property
    def name(self) -> str:
        """What the course is called."""

    @property
    def group(self) -> str:
        """Courses of one group are averaged."""

    def open(self, preprocess: Preprocessor) -> Course:
        """The course for networks that see pictures as `preprocess` makes them."""


@dataclass(frozen=True)
class WorldPlan:
    """A procedural world that is never trained on."""

    kind: Kind
    number: int
    frames: int
    stride: int

    @property
    def name(self) -> str:
        """Kind and number."""
        return f"{self.kind}-{self.number}"

    @property
    def group(self) -> str:
        """The kind."""
        return self.kind

    def open(self, preprocess: Preprocessor) -> Course:
        """Render it."""
        views = sample_sequence(
            FIRST_SEED + self.number,
            self.frames,
            four_by_three(preprocess.size),
            self.kind,
            stride=self.stride,
        )
        pictures = (views.images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        depth = views.depth.numpy()[::DEPTH_EVERY]
        return Course(
            self.name,
            lambda: iter(pictures),
            views.camera_to_world.numpy(),
            sampled_points(np.where(depth < FAR, depth, 0), views.intrinsics),
            views.intrinsics,
        )


@dataclass(frozen=True, eq=False)
class RealPlan:
    """The beginning of a real sequence."""

    sequence: PosedSequence
    frames: int

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.sequence.name

    @property
    def group(self) -> str:
        """Lengths of real sequences, and their units, are too different to be averaged."""
        return self.name

    def open(self, preprocess: Preprocessor) -> Course:
        """Read its truth; pictures are read when they are run over."""
        sequence, count = self.sequence, min(self.frames, len(self.sequence))
        original = sequence.intrinsics
        transform = preprocess.transform((original.width, original.height))
        camera, points = transform.intrinsics(original), None
        if sequence.has_depth:
            maps = (transform.sample(sequence.depth(i)) for i in range(0, count, DEPTH_EVERY))
            points = np.concatenate([sampled_points(depth[None], camera) for depth in maps])
        return Course(
            self.name,
            lambda: (read_image(path) for path in sequence.images[:count]),
            sequence.camera_to_world[:count],
            points,
            camera,
        )


def plan_courses(
    worlds: int, frames: int, stride: int, data: Sequence[Path]
) -> list[Sequence[Plan]]:
    """So many worlds of every kind, and every sequence that is a folder in one of `data`.

    Returns:
        courses that can be run over side by side: all worlds, and each real sequence alone.

    Raises:
        SourceError: a folder of `data` is no sequence in a known layout.
    """
    together = [WorldPlan(kind, n, frames, stride) for kind in KINDS for n in range(worlds)]
    plans: list[Sequence[Plan]] = [together] if together else []
    for place in data:
        folders = sorted(folder for folder in place.iterdir() if folder.is_dir())
        plans += [[RealPlan(load_sequence(folder), frames)] for folder in folders]
    return plans


def sampled_points(depth: NDArray[np.floating], camera: Intrinsics) -> NDArray[np.float32]:
    """Points (M, P, 3), at the pixels of `GRID`, of depth maps (M, height, width); NaN for no depth."""
    pixels = camera.pixel_centres()[GRID[1:]].reshape(-1, 2)
    sampled = depth[GRID].reshape(len(depth), -1)
    return camera.unproject(pixels, np.where(sampled > 0, sampled, np.nan)).astype(np.float32)
