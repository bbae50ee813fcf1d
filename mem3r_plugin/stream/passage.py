"""Frames' passage through the network: several are encoded and answered at once, one after the other recurs.

Encoder and heads need no state, so they take a window of frames together; that keeps the processor busy, and
brings the answers of a window from a GPU with one wait. Only the recurrence goes frame by frame. Several
streams go side by side as one batch, each with a state of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.geometry.pose import pose_matrix, rotation_from_quaternion
from mem3r_plugin.model import ReconstructionNetwork, RecurrentState, UpdateRule
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.heads import FrameOutput
from mem3r_plugin.model.precision import Precision, arithmetic, choose_precision, convert
from mem3r_plugin.stream.image_feature import image_feature
from mem3r_plugin.stream.preprocess import to_network_input
from mem3r_plugin.stream.stages import NoClock, StageClock


@dataclass(frozen=True)
class Answer:
    """The network's answer for one frame, brought to NumPy."""

    pose: NDArray[np.float64]
    """Camera to the network's world, shape (4, 4)."""
    points: NDArray[np.float32]
    """Points in the camera's frame, shape (h, w, 3)."""
    confidence: NDArray[np.float32]
    """Shape (h, w)."""
    usable: NDArray[np.bool_]
    """Where point and confidence are finite and the point lies before the camera, shape (h, w)."""


@dataclass(frozen=True)
class Passage:
    """What one frame's passage through the network gave."""

    answer: Answer | None
    """None where the answer, or the state after the frame, is not finite."""
    state: RecurrentState
    """The state after the frame."""
    tokens: Tensor
    """The frame's encoder tokens (1, N, C)."""
    feature: NDArray[np.float32]
    """`image_feature` of the tokens (C,)."""


@dataclass(frozen=True)
class Flight:
    """A window of frames under way through the network."""

    before: RecurrentState
    """The state before the first of them."""
    after: RecurrentState | None
    """The state after the last, from which others can be begun; None where it is known only on landing."""
    land: Callable[[], list[Passage]]
    """Waits for the frames' passages; to be called once."""


@dataclass(frozen=True)
class Stretch:
    """The next frames of one stream, and what it remembers before them."""

    state: RecurrentState
    """The state before the first of them; it is not changed."""
    pictures: Sequence[NDArray[np.uint8]]
    """RGB (h, w, 3), all of one size."""


class StreamPassage(Protocol):
    """One stream's way through a network, which may be shared with other streams."""

    @property
    def network(self) -> ReconstructionNetwork:
        """The network, on its device."""

    @property
    def device(self) -> torch.device:
        """Where states are."""

    @property
    def precision(self) -> Precision:
        """Arithmetic of the network, no longer `auto`."""

    def initial_state(self) -> RecurrentState:
        """The state before the first frame and after a reset."""

    def take(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> list[Passage]:
        """Frames one after the other, from `state` on; see `Stretch`."""

    def begin(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> Flight:
        """What `take` does, under way where the device works by itself."""

    def again(self, tokens: Tensor, size: tuple[int, int]) -> Passage:
        """A frame that was encoded before, from the initial state; `size` is (height, width)."""


class NetworkPassage:
    """Takes windows of pictures through the network.

    Args:
        network: On its device; it is converted to `precision`.
        rule: How the state is updated.
        precision: Arithmetic of the network.
        clock: Told how long the stages take.
    """

    def __init__(
        self,
        network: ReconstructionNetwork,
        rule: UpdateRule,
        precision: Precision = "float32",
        clock: StageClock | None = None,
    ) -> None:
        self.precision = choose_precision(network, precision)
        """Arithmetic of the network, no longer `auto`."""
        self.network = convert(network, self.precision)
        self.device = next(network.parameters()).device
        self._rule = rule
        self._clock = clock or NoClock()

    def initial_state(self) -> RecurrentState:
        """The state before the first frame and after a reset."""
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            return self.network.initial_state()

    def begin(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> Flight:
        """What `take` does, under way where the device works by itself."""
        return Flight(state, None, partial(self.take, state, pictures))

    def take(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> list[Passage]:
        """Frames one after the other, from `state` on; see `Stretch`."""
        (passages,) = self.take_together([Stretch(state, pictures)])
        return passages

    @torch.inference_mode()
    def take_together(self, stretches: Sequence[Stretch]) -> list[list[Passage]]:
        """Several streams side by side, with pictures of one size; each as if it were alone.

        Their numbers are rounded differently than alone, as those of a larger batch are.
        """
        pixels = to_network_input(np.stack([p for stretch in stretches for p in stretch.pictures]))
        with arithmetic(self.device, self.precision):
            with self._clock.stage("encode"):
                encoded = self.network.encode(pixels.to(self.device))
            lengths = [len(stretch.pictures) for stretch in stretches]
            tokens = [frames.split(1) for frames in encoded.split(lengths)]
            states = [stretch.state for stretch in stretches]
            return self._recur(states, tokens, (pixels.shape[2], pixels.shape[3]))

    @torch.inference_mode()
    def again(self, tokens: Tensor, size: tuple[int, int]) -> Passage:
        """A frame that was encoded before, from the initial state; `size` is (height, width)."""
        state = self.initial_state()
        with arithmetic(self.device, self.precision):
            ((passage,),) = self._recur([state], [(tokens,)], size)
        return passage

    def _recur(
        self,
        states: Sequence[RecurrentState],
        tokens: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
    ) -> list[list[Passage]]:
        """What becomes of every stream's frames, whose tokens are (1, N, C) each."""
        grid = (size[0] // PATCH, size[1] // PATCH)
        states = list(states)
        levels, finite = [], []
        passed: list[tuple[int, RecurrentState, Tensor]] = []
        with self._clock.stage("recur"):
            for step in range(max(map(len, tokens))):
                going_on = [stream for stream, frames in enumerate(tokens) if step < len(frames)]
                for alike in _alike(going_on, states):
                    recurrence, after = self.network.recur(
                        RecurrentState.stack([states[stream] for stream in alike]),
                        torch.cat([tokens[stream][step] for stream in alike]),
                        grid,
                        rule=self._rule,
                    )
                    levels.append(recurrence.decoded.levels)
                    finite.append(all_finite(after))
                    for stream, state in zip(alike, after.split(), strict=True):
                        states[stream] = replace(state, frames=states[stream].frames + 1)
                        passed.append((stream, states[stream], tokens[stream][step]))
        with self._clock.stage("heads"):
            middle, late, last = (torch.cat(level) for level in zip(*levels, strict=True))
            seen = torch.cat([frame for _, _, frame in passed])
            output = self.network.read_out(seen, (middle, late, last), grid)
        with self._clock.stage("transfer"):
            answers = answers_on_host(output, torch.cat(finite))
            features = [image_feature(frame[0]) for _, _, frame in passed]
        passages: list[list[Passage]] = [[] for _ in tokens]
        for answer, feature, (stream, state, frame) in zip(answers, features, passed, strict=True):
            passages[stream].append(Passage(answer, state, frame, feature))
        return passages


def _alike(streams: Sequence[int], states: Sequence[RecurrentState]) -> Iterator[list[int]]:
    """The streams in groups whose states can be stacked: first frames, for one, pass by themselves."""
    kinds = {stream: states[stream].kind for stream in streams}
    for kind in dict.fromkeys(kinds.values()):
        yield [stream for stream in streams if kinds[stream] == kind]


def all_finite(state: RecurrentState) -> Tensor:
    """Whether all that each stream remembers is finite (batch,), on the device it is on."""
    remembered = [t for t in state.remembered().values() if t.is_floating_point()]
    return torch.stack([t.isfinite().flatten(1).all(1) for t in remembered]).all(0)


def answers_on_host(output: FrameOutput, finite: Tensor) -> list[Answer | None]:
    """Answers for a window, from what the network says and whether the state is finite after each frame."""
    assert output.points_self is not None
    assert output.confidence_self is not None
    poses = output.pose.double().cpu().numpy()
    points = output.points_self.float().cpu().numpy()
    confidences = output.confidence_self.float().cpu().numpy()
    return [
        _answer(*parts) if remembered else None
        for *parts, remembered in zip(poses, points, confidences, finite.tolist(), strict=True)
    ]


def _answer(
    pose: NDArray[np.float64], points: NDArray[np.float32], confidence: NDArray[np.float32]
) -> Answer | None:
    """None where the pose, or every point, is not finite."""
    finite = np.isfinite(points).all(axis=-1) & np.isfinite(confidence)
    if not np.isfinite(pose).all() or not pose[3:].any() or not finite.any():
        return None
    matrix = pose_matrix(rotation_from_quaternion(pose[3:]), pose[:3])
    return Answer(matrix, points, confidence, finite & (points[..., 2] > 0))
