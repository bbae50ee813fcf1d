"""Everything a stream remembers, in one explicit object."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import Tensor


@dataclass(frozen=True)
class RecurrentState:
    """The recurrent state of a batch of streams; every step returns a new one.

    The network itself keeps nothing, so a state can be saved, moved, copied or thrown away at any time.
    """

    tokens: Tensor
    """Scene memory: state tokens (batch, state tokens, width)."""
    memory: dict[str, Tensor]
    """Pose memory: slots, or fast weights; batch first."""
    rule: dict[str, Tensor]
    """Whatever the update rule keeps from frame to frame; batch first."""
    frames: int = 0
    """Frames seen since the start or the last reset."""
    read_first: bool = False
    """Read the pose memory even for the first frame (CUT3R and TTSA3R do so after a reset)."""

    @property
    def first(self) -> bool:
        """Whether the next frame is the first one."""
        return self.frames == 0

    @property
    def kind(self) -> Hashable:
        """What must be equal of states that are stacked: the network treats a whole batch alike."""
        return self.first, self.read_first, frozenset(self.rule)

    @classmethod
    def stack(cls, states: Sequence[RecurrentState]) -> RecurrentState:
        """The state of a batch of streams, from those of single ones, all of one `kind` and picture size.

        Whoever stacks keeps the numbers of frames, which differ; the batch has that of the first.
        """
        one = states[0]
        if len(states) == 1:
            return one
        return replace(
            one,
            tokens=torch.cat([state.tokens for state in states]),
            memory={k: torch.cat([state.memory[k] for state in states]) for k in one.memory},
            rule={k: torch.cat([state.rule[k] for state in states]) for k in one.rule},
        )

    def split(self) -> list[RecurrentState]:
        """The states of a batch's single streams."""
        return [self._mapped(itemgetter(slice(i, i + 1))) for i in range(len(self.tokens))]

    def to_tensors(self) -> dict[str, Tensor]:
        """A flat dictionary of tensors, fit for safetensors; `from_tensors` restores the state exactly."""
        remembered = {name: tensor.contiguous() for name, tensor in self.remembered().items()}
        return {**remembered, "frames": torch.tensor([self.frames, int(self.read_first)])}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> RecurrentState:
        """The inverse of `to_tensors`; keys of other prefixes are left alone."""
        frames, read_first = tensors["frames"].tolist()
        return cls.holding(tensors, int(frames), read_first=bool(read_first))

    @classmethod
    def holding(
        cls, tensors: Mapping[str, Tensor], frames: int, *, read_first: bool = False
    ) -> RecurrentState:
        """The state after `frames` that remembers `tensors`; keys of other prefixes are left alone."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        return cls(tensors["tokens"], part("memory."), part("rule."), frames, read_first)

    def remembered(self) -> dict[str, Tensor]:
        """The tensors by themselves, as they lie, under the names that `to_tensors` gives them."""
        return {
            "tokens": self.tokens,
            **{f"memory.{name}": tensor for name, tensor in self.memory.items()},
            **{f"rule.{name}": tensor for name, tensor in self.rule.items()},
        }

    def detach(self) -> RecurrentState:
        """The same state, cut off from the graph that made it (truncated back-propagation)."""
        return self._mapped(Tensor.detach)

    def to(self, device: torch.device | str) -> RecurrentState:
        """The same state on another device."""
        return self._mapped(lambda tensor: tensor.to(device))

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> RecurrentState:
        return replace(
            self,
            tokens=function(self.tokens),
            memory={k: function(v) for k, v in self.memory.items()},
            rule={k: function(v) for k, v in self.rule.items()},
        )
