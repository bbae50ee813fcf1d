"""Mem3R's pose memory: a small network whose weights are trained while the stream runs.

Per head the memory is a gated MLP f(x) = W2 (SiLU(W1 x) * W3 x). Reading asks it with a projection of the
picture; writing takes one gradient step that makes the answer agree with the pose the decoder found
(mem3r.md, "One step", 2 and 4; arXiv 2604.07279).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mem3r_plugin.model.precision import in_float32

INITIAL_RATE = 0.01
"""Learning rate of an untrained memory; the paper gives none, and the heads learn their own."""

MAX_GROWTH = 2.0
"""How many times its initial norm a fast-weight matrix may reach.

The agreement that writing increases has no maximum: the gradients of the three matrices feed each other, and
without a bound a memory written often enough overflows. The paper does not say how it avoids that; below
the bound a write is exactly its formula.
"""


class FastWeights(NamedTuple):
    """The three matrices of every head, each (batch, heads, channels, channels)."""

    w1: Tensor
    w2: Tensor
    w3: Tensor


def apply_fast_weights(weights: FastWeights, query: Tensor) -> Tensor:
    """f(x) head by head: (batch, heads, channels) to (batch, heads, channels)."""
    column = query.unsqueeze(-1)
    hidden = F.silu(weights.w1 @ column) * (weights.w3 @ column)
    return (weights.w2 @ hidden).squeeze(-1)


def fast_weight_gradient(weights: FastWeights, query: Tensor, target: Tensor) -> FastWeights:
    """Gradient of <f(query), target> by the weights, in closed form.

    Args:
        weights: the weights at which the gradient is taken.
        query: (batch, heads, channels).
        target: (batch, heads, channels), the wanted answer carried back through the output projection.
    """
    column, wanted = query.unsqueeze(-1), target.unsqueeze(-1)
    a, b = weights.w1 @ column, weights.w3 @ column
    sigmoid = torch.sigmoid(a)
    silu = a * sigmoid
    silu_slope = sigmoid * (1 + a * (1 - sigmoid))
    back = weights.w2.mT @ wanted
    return FastWeights(
        w1=(back * b * silu_slope) @ column.mT,
        w2=wanted @ (silu * b).mT,
        w3=(back * silu) @ column.mT,
    )


class FastWeightMemory(nn.Module):
    """A pose memory of constant size, written by test-time training."""

    def __init__(
        self, encoder_width: int, width: int, heads: int, *, base_rate: float, max_decay: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.base_rate = base_rate
        self.max_decay = max_decay
        channels = width // heads
        self.query = nn.Linear(encoder_width, width)
        self.out = nn.Linear(width, width)
        self.rate = nn.Linear(encoder_width, 3 * heads)
        self.decay = nn.Linear(encoder_width, heads)
        initial = torch.randn(3, heads, channels, channels) / math.sqrt(channels)
        self.initial_weights = nn.Parameter(initial)

    def reset_rates(self) -> None:
        """Start the learning rates at `INITIAL_RATE` and the decay near none, whatever the picture."""
        nn.init.zeros_(self.rate.weight)
        nn.init.constant_(self.rate.bias, math.log(math.expm1(INITIAL_RATE)) - self.base_rate)
        nn.init.zeros_(self.decay.weight)
        nn.init.constant_(self.decay.bias, -2.0)

    def initial(self, batch_size: int) -> dict[str, Tensor]:
        """The learned initial weights, each (batch, heads, channels, channels)."""
        w1, w2, w3 = self.initial_weights.unsqueeze(1).expand(-1, batch_size, -1, -1, -1)
        return FastWeights(w1, w2, w3)._asdict()

    def read(self, memory: dict[str, Tensor], feature: Tensor, *, first: bool = False) -> Tensor:
        """The pose prior (batch, 1, width); the initial weights answer for the first frame."""
        del first  # the initial weights are this memory's learned first token
        with in_float32(feature.device):
            answer = apply_fast_weights(FastWeights(**memory), self._query(feature.float()))
            return self.out(answer.flatten(1)).unsqueeze(1)

    def write(
        self, memory: dict[str, Tensor], feature: Tensor, pose_token: Tensor
    ) -> dict[str, Tensor]:
        """One step up the gradient of <prior, pose_token>, after a little forgetting."""
        with in_float32(feature.device):
            return self._write(memory, feature.float(), pose_token.float())

    def _write(
        self, memory: dict[str, Tensor], feature: Tensor, pose_token: Tensor
    ) -> dict[str, Tensor]:
        weights = FastWeights(**memory)
        target = (pose_token @ self.out.weight).unflatten(-1, (self.heads, -1))
        gradient = fast_weight_gradient(weights, self._query(feature), target)
        keep = 1 - self.max_decay * torch.sigmoid(self.decay(feature))
        rates = F.softplus(self.rate(feature) + self.base_rate).unflatten(-1, (3, self.heads))
        bounds = MAX_GROWTH * torch.linalg.matrix_norm(self.initial_weights)
        written = (
            _bounded(keep[..., None, None] * old + rate[..., None, None] * step, bound)
            for old, rate, step, bound in zip(
                weights, rates.unbind(1), gradient, bounds, strict=True
            )
        )
        return FastWeights(*written)._asdict()

    def _query(self, feature: Tensor) -> Tensor:
        return F.normalize(self.query(feature).unflatten(-1, (self.heads, -1)), dim=-1)


def _bounded(matrices: Tensor, bound: Tensor) -> Tensor:
    """Matrices (batch, heads, channels, channels) scaled down to norms of at most `bound` (heads,)."""
    norm = torch.linalg.matrix_norm(matrices).clamp_min(torch.finfo(matrices.dtype).tiny)
    return matrices * (bound / norm).clamp_max(1)[..., None, None]
