"""What the machine can do at most, measured anew every time: on shared machines it changes by the minute."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from mem3r_plugin.model.attention import attend
from mem3r_plugin.model.packed import PackedLinear, can_pack

MATRIX = 4096
"""Rows and columns of the matrices that are multiplied."""
LAYER = 1024
"""Tokens and channels of the packed layer."""
ATTENTION = (16, 768, 64)
"""Heads, tokens and channels of the attention: CUT3R's encoder at 512x384."""
REPEATS = 5


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a matrix product, torch's own large one or a packed layer's."""
    plain = plain_matmul_peak(device, dtype)
    if device.type != "cpu" or not can_pack():
        return plain
    layer = PackedLinear(nn.Linear(LAYER, LAYER, dtype=dtype))
    tokens = torch.randn(LAYER, LAYER, dtype=dtype)
    return max(plain, 2 * LAYER**3 / _fastest(lambda: layer(tokens), device))


def plain_matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of torch's own large matrix product."""
    left, right = (torch.randn(MATRIX, MATRIX, device=device, dtype=dtype) for _ in range(2))
    return 2 * MATRIX**3 / _fastest(lambda: left @ right, device)


def attention_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of attention by itself, computed as the network's."""
    heads, tokens, channels = ATTENTION
    shape = (1, heads, tokens, channels)
    query, key, value = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
    seconds = _fastest(lambda: attend(query, key, value), device)
    return 4 * heads * tokens**2 * channels / seconds


@torch.inference_mode()
def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few repetitions."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])
