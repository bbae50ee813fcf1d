"""Frames' passage through the network: several are encoded and answered at once, one after the other recurs.

Encoder and heads need no state, so they take a window of frames together; that keeps the processor busy, and
brings the answers of a window from a GPU with one wait. Only the recurrence goes frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.geometry.pose import pose_matrix, rotation_from_quaternion
from mem3r_plugin.model import ReconstructionNetwork, RecurrentState, UpdateRule
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.heads import FrameOutput
from mem3r_plugin.model.precision import Precision, arithmetic
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


class NetworkPassage:
    """Takes windows of pictures through the network.

    Args:
        network: On its device, converted to `precision`.
        rule: How the state is updated.
        precision: Arithmetic of the network, `float32` or `bfloat16`.
        clock: Told how long the stages take.
    """

    def __init__(
        self,
        network: ReconstructionNetwork,
        rule: UpdateRule,
        precision: Precision = "float32",
        clock: StageClock | None = None,
    ) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        self._rule = rule
        self._precision = precision
        self._clock = clock or NoClock()

    def initial_state(self) -> RecurrentState:
        """The state before the first frame and after a reset."""
        with torch.inference_mode(), arithmetic(self.device, self._precision):
            return self.network.initial_state()

    def begin(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> Flight:
        """What `take` does, under way where the device works by itself."""
        return Flight(state, None, partial(self.take, state, pictures))

    @torch.inference_mode()
    def take(self, state: RecurrentState, pictures: Sequence[NDArray[np.uint8]]) -> list[Passage]:
        """Frames one after the other, from `state` on.

        Args:
            state: The state before the first of them; it is not changed.
            pictures: RGB (h, w, 3), all of one size.
        """
        pixels = to_network_input(np.stack(pictures))
        with arithmetic(self.device, self._precision):
            with self._clock.stage("encode"):
                tokens = self.network.encode(pixels.to(self.device))
            return self._recur(state, tokens.split(1), (pixels.shape[2], pixels.shape[3]))

    @torch.inference_mode()
    def again(self, tokens: Tensor, size: tuple[int, int]) -> Passage:
        """A frame that was encoded before, from the initial state; `size` is (height, width)."""
        state = self.initial_state()
        with arithmetic(self.device, self._precision):
            (passage,) = self._recur(state, (tokens,), size)
        return passage

    def _recur(
        self, state: RecurrentState, tokens: Sequence[Tensor], size: tuple[int, int]
    ) -> list[Passage]:
        grid = (size[0] // PATCH, size[1] // PATCH)
        levels, states = [], []
        with self._clock.stage("recur"):
            for frame_tokens in tokens:
                recurrence, state = self.network.recur(state, frame_tokens, grid, rule=self._rule)
                levels.append(recurrence.decoded.levels)
                states.append(state)
        with self._clock.stage("heads"):
            middle, late, last = (torch.cat(level) for level in zip(*levels, strict=True))
            output = self.network.read_out(torch.cat([*tokens]), (middle, late, last), grid)
            finite = torch.stack([all_finite(after) for after in states])
        with self._clock.stage("transfer"):
            answers = answers_on_host(output, finite)
            features = [image_feature(frame_tokens[0]) for frame_tokens in tokens]
        return [Passage(*parts) for parts in zip(answers, states, tokens, features, strict=True)]


def all_finite(state: RecurrentState) -> Tensor:
    """Whether all that is remembered is finite, on the device it is on."""
    remembered = [t for t in state.remembered().values() if t.is_floating_point()]
    return torch.stack([t.isfinite().all() for t in remembered]).all()


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
