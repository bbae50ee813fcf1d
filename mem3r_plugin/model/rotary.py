"""Two-dimensional rotary position embedding (cut3r_backbone.md section 2).

A head's channels are cut into four quarters [u_y | v_y | u_x | v_x]: the first half of the head turns with
the row, the second with the column, and inside each half element i is paired with element i + quarter.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

BASE = 100.0
"""Base of the frequencies; the fastest turns one radian per patch."""
FEWEST_HEADS = 8
"""Heads from which on a product of matrices for each token is faster than channel by channel."""


class Rotary(NamedTuple):
    """What turns the heads of a list of tokens, each (tokens, head channels)."""

    cos: Tensor
    """Cosines of the angles."""
    sin: Tensor
    """Sines of the angles, negative for the first of each pair."""
    turns: Tensor | None = None
    """The same as matrices (tokens, head channels, head channels), where multiplying with them is faster."""

    def rotate(self, heads: Tensor) -> Tensor:
        """Turn queries or keys (…, batch, heads, tokens, channels) by their tokens' positions."""
        if self.turns is not None and heads.shape[-3] >= FEWEST_HEADS:
            return _multiplied(heads, self.turns)
        return _turned(heads, self.cos, self.sin)

    def rotate_as_half(self, heads: Tensor) -> Tensor:
        """`rotate` with operands and result rounded to float16, as CUT3R's published encoder does."""
        return self.rotate(heads.half().float()).half().to(heads.dtype)


def _turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    u_y, v_y, u_x, v_x = heads.chunk(4, dim=-1)
    swapped = torch.cat([v_y, u_y, v_x, u_x], dim=-1)
    return torch.addcmul(heads * cos, swapped, sin)


def _multiplied(heads: Tensor, turns: Tensor) -> Tensor:
    """Each token's heads times its matrix, picture by picture, so that nothing is copied before."""
    pictures = heads.movedim((-4, -2), (0, 1))
    turned = [torch.bmm(tokens.flatten(1, -2), turns) for tokens in pictures]
    together = torch.stack(turned) if len(turned) > 1 else turned[0].unsqueeze(0)
    return together.unflatten(2, pictures.shape[2:-1]).movedim((0, 1), (-4, -2))


def image_positions(rows: int, columns: int, *, pose_token: bool) -> Tensor:
    """Positions (tokens, 2) as (row, column) of a patch grid; a pose token comes first, at (-1, -1)."""
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    if not pose_token:
        return grid
    return torch.cat([torch.full((1, 2), -1), grid])


def state_positions(tokens: int) -> Tensor:
    """Positions (tokens, 2) of the state tokens: a grid of even width near the square root."""
    width = int(tokens**0.5)
    width += width % 2
    index = torch.arange(tokens)
    return torch.stack([index // width, index % width], dim=-1)


def rotary_for(positions: Tensor, head_channels: int) -> Rotary:
    """Cosines and sines of integer `positions` (tokens, 2) for heads of `head_channels`, in float32."""
    quarter = head_channels // 4
    exponent = torch.arange(quarter, device=positions.device, dtype=torch.float32) / quarter
    angles = positions.float()[..., None] * BASE**-exponent
    angles_y, angles_x = angles[:, 0], angles[:, 1]
    full = torch.cat([angles_y, angles_y, angles_x, angles_x], dim=-1)
    signs = torch.tensor([-1.0, 1.0, -1.0, 1.0], device=positions.device)
    return Rotary(full.cos(), full.sin() * signs.repeat_interleave(quarter))


# The tables are never dropped, since CUDA graphs read them where they lie: pictures of one long side have
# no more than some dozens of shapes.
@cache
def image_rotary(
    rows: int,
    columns: int,
    head_channels: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    pose_token: bool = False,
) -> Rotary:
    """The table of a patch grid, made once per resolution, device and number format."""
    with torch.inference_mode(False):
        positions = image_positions(rows, columns, pose_token=pose_token)
        return _as(rotary_for(positions.to(device), head_channels), dtype)


@cache
def state_rotary(
    tokens: int, head_channels: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Rotary:
    """The table of the state tokens, made once per device and number format."""
    with torch.inference_mode(False):
        return _as(rotary_for(state_positions(tokens).to(device), head_channels), dtype)


def _as(rotary: Rotary, dtype: torch.dtype) -> Rotary:
    """The table in a number format; for bfloat16 on a CPU with its matrices.

    A product for each token reads and writes once what swapping, two products and a sum go over three times.
    """
    cos, sin = rotary.cos.to(dtype), rotary.sin.to(dtype)
    if dtype != torch.bfloat16 or cos.device.type != "cpu":
        return Rotary(cos, sin)
    tokens, channels = cos.shape
    axes = torch.eye(channels).view(channels, 1, channels).expand(-1, tokens, -1)
    turns = _turned(axes, rotary.cos, rotary.sin).transpose(0, 1)
    return Rotary(cos, sin, turns.to(dtype).contiguous())
