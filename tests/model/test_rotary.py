"""Rotary embedding as matrices, which large networks use in bfloat16 on a CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.model.rotary import FEWEST_HEADS, Rotary, image_rotary, state_rotary

CPU = torch.device("cpu")


def tables(rows: int, columns: int, channels: int) -> tuple[Rotary, Rotary]:
    """The same table in float32, and in bfloat16 with its matrices."""
    exact, lower = (
        image_rotary(rows, columns, channels, CPU, dtype, pose_token=True)
        for dtype in (torch.float32, torch.bfloat16)
    )
    return exact, lower


@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    pictures=st.integers(1, 3),
    heads=st.integers(FEWEST_HEADS, 2 * FEWEST_HEADS),
    quarter=st.integers(1, 16),
)
def test_matrices_turn_as_angles_do(
    grid: tuple[int, int], pictures: int, heads: int, quarter: int
) -> None:
    exact, lower = tables(*grid, 4 * quarter)
    tokens = 1 + grid[0] * grid[1]
    # Queries and keys as they lie in one projection of both.
    both = torch.randn(pictures, tokens, 2, heads, 4 * quarter).permute(2, 0, 3, 1, 4)
    turned = lower.rotate(both.bfloat16())
    assert turned.shape == both.shape
    torch.testing.assert_close(
        turned.float(), exact.rotate(both.bfloat16().float()), atol=2e-2, rtol=2e-2
    )
    alone = torch.stack([lower.rotate(part.bfloat16()) for part in both])
    assert torch.equal(turned, alone)


def test_matrices_round_less_than_channels() -> None:
    exact, lower = tables(6, 8, 64)
    heads = torch.randn(1, 12, 49, 64).bfloat16()
    truth = exact.rotate(heads.float())
    by_matrix, by_channel = (
        (table.rotate(heads).float() - truth).abs().mean()
        for table in (lower, lower._replace(turns=None))
    )
    assert by_matrix < by_channel


def test_gradients_pass_through_matrices() -> None:
    _, lower = tables(2, 3, 16)
    heads = torch.randn(2, FEWEST_HEADS, 7, 16, dtype=torch.bfloat16, requires_grad=True)
    lower.rotate(heads).sum().backward()
    assert heads.grad is not None
    assert heads.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_only_bfloat16_has_matrices(dtype: torch.dtype) -> None:
    assert state_rotary(16, 8, CPU, dtype).turns is None
    assert state_rotary(16, 8, CPU, torch.bfloat16).turns is not None
