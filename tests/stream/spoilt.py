"""Networks that give NaN where a test wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mem3r_plugin.model import FrameOutput, ReconstructionNetwork, RecurrentState

OutputChange = Callable[[FrameOutput, int], None]
StateChange = Callable[[RecurrentState], RecurrentState]


def spoil(
    monkeypatch: pytest.MonkeyPatch,
    is_bad: Callable[[ReconstructionNetwork, Tensor], bool],
    output: OutputChange | None = None,
    state: StateChange | None = None,
) -> None:
    """Change the rows of the output, or the state, of frames whose encoder tokens `is_bad` recognises."""
    recur, read_out = ReconstructionNetwork.recur, ReconstructionNetwork.read_out
    waiting: list[bool] = []

    def spoilt_recur(self: ReconstructionNetwork, *args: Any, **kwargs: Any) -> Any:
        recurrence, after = recur(self, *args, **kwargs)
        waiting.append(is_bad(self, args[1]))
        return recurrence, state(after) if state and waiting[-1] else after

    def spoilt_read_out(self: ReconstructionNetwork, *args: Any, **kwargs: Any) -> FrameOutput:
        answer = read_out(self, *args, **kwargs)
        for row, bad in enumerate(waiting):
            if output and bad:
                output(answer, row)
        waiting.clear()
        return answer

    monkeypatch.setattr(ReconstructionNetwork, "recur", spoilt_recur)
    monkeypatch.setattr(ReconstructionNetwork, "read_out", spoilt_read_out)


def at_calls(bad: Callable[[int], bool]) -> Callable[[ReconstructionNetwork, Tensor], bool]:
    """Tells by the number of the passage; for frames that pass one by one."""
    calls = iter(range(10**6))
    return lambda network, tokens: bad(next(calls))


def showing(*pictures: Tensor) -> Callable[[ReconstructionNetwork, Tensor], bool]:
    """Tells by what the frame shows: one of these network inputs (3, height, width)."""

    def is_bad(network: ReconstructionNetwork, tokens: Tensor) -> bool:
        return any(
            torch.allclose(tokens, network.encode(picture[None]), atol=1e-4) for picture in pictures
        )

    return is_bad


def nan_pose(output: FrameOutput, row: int) -> None:
    output.pose[row] = torch.nan


def nan_points(output: FrameOutput, row: int) -> None:
    assert output.points_self is not None
    output.points_self[row] = torch.nan


def infinite_state(state: RecurrentState) -> RecurrentState:
    return replace(state, tokens=state.tokens + torch.inf)
