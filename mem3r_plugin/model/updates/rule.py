"""The interface of an update rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mem3r_plugin.model.attention import AttentionObserver


@dataclass(frozen=True)
class UpdateContext:
    """What a rule may look at when it decides how much of a frame is written."""

    first: bool
    """Whether this is the first frame of a scan, or the first after a reset."""
    update: bool
    """Whether the frame is meant to change the state at all."""
    state: Tensor
    """State tokens before the frame (batch, state tokens, width)."""
    candidate: Tensor
    """Candidate state tokens (batch, state tokens, width)."""
    image_tokens: Tensor
    """Encoder tokens of the frame (batch, tokens, encoder width)."""
    kept: dict[str, Tensor]
    """What the rule returned to keep after the previous frame; empty at the first."""


@dataclass(frozen=True)
class Update:
    """A rule's verdict on one frame."""

    gate: Tensor | None
    """How much of the candidate each token takes (batch, state tokens, 1) in [0, 1]; None means all of it."""
    kept: dict[str, Tensor]
    """Tensors (batch first) handed back with the next frame."""


class UpdateStep(Protocol):
    """A rule at work on one frame."""

    @property
    def observer(self) -> AttentionObserver | None:
        """Sees the state decoder's queries and keys for the image, layer by layer; None if not needed."""

    def finish(self, context: UpdateContext) -> Update:
        """Decide, once the frame is decoded."""


class UpdateRule(Protocol):
    """A way to gate state writes; stateless itself, made once and asked for a step at every frame."""

    ignores_update_flag: bool
    """Write even where a frame is not meant to update (only to reproduce a reference)."""

    def step(self) -> UpdateStep:
        """Begin with one frame."""
