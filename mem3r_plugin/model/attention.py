"""Self- and cross-attention, on fused kernels that form no attention matrix wherever those are fastest."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mem3r_plugin.machine import processor_capabilities
from mem3r_plugin.model.rotary import Rotary

AttentionObserver = Callable[[Tensor, Tensor], None]
"""Sees the rotated queries and keys, each (batch, heads, tokens, head channels), of a cross-attention."""


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(batch, tokens, channels) as (batch, heads, tokens, channels / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """The inverse of `split_heads`."""
    return heads.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention over tensors (batch, heads, tokens, channels)."""
    if query.device.type == "cpu" and (query.requires_grad or _products_are_faster(value.dtype)):
        return _attend_by_products(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)


def _attend_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same by plain matrix products.

    For learning on a CPU, since the fused kernel's backward pass is slower by a third for the few tokens of
    small networks, and for bfloat16 on some processors.
    """
    scores = query * query.shape[-1] ** -0.5 @ key.mT
    if scores.requires_grad:
        return scores.softmax(dim=-1).to(value.dtype) @ value
    return torch.softmax(scores, dim=-1, out=scores) @ value


@lru_cache
def _products_are_faster(dtype: torch.dtype) -> bool:
    """Whether the CPU's fused kernel computes in `dtype` with vectors where oneDNN has units of its own.

    That kernel takes bfloat16 to such units on processors with AMX only.
    """
    units = processor_capabilities()
    return dtype == torch.bfloat16 and bool(units.get("avx512_bf16")) and not units.get("amx_bf16")


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, width: int, heads: int, *, half_rotary: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.half_rotary = half_rotary
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, rotary: Rotary | None) -> Tensor:
        """Attend within `tokens` (batch, tokens, width)."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv
        if rotary is not None:
            rotate = rotary.rotate_as_half if self.half_rotary else rotary.rotate
            query, key = rotate(qkv[:2])
        return self.out(merge_heads(attend(query, key, value)))


class CrossAttention(nn.Module):
    """Multi-head attention from one set of tokens to another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Tensor,
        context: Tensor,
        rotary: Rotary | None,
        context_rotary: Rotary | None,
        observer: AttentionObserver | None = None,
    ) -> Tensor:
        """Attend from `tokens` (batch, tokens, width) to `context` (batch, context tokens, width)."""
        query = split_heads(self.query(tokens), self.heads)
        key = split_heads(self.key(context), self.heads)
        value = split_heads(self.value(context), self.heads)
        if rotary is not None and context_rotary is not None:
            query, key = rotary.rotate(query), context_rotary.rotate(key)
        if observer is not None:
            observer(query, key)
        return self.out(merge_heads(attend(query, key, value)))
