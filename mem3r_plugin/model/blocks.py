"""Transformer blocks: encoder, decoder, and the one modulated by a condition vector."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mem3r_plugin.model.attention import AttentionObserver, CrossAttention, SelfAttention
from mem3r_plugin.model.config import MLP_RATIO
from mem3r_plugin.model.rotary import Rotary


def layer_norm(width: int) -> nn.LayerNorm:
    """Layer normalisation with the epsilon used throughout CUT3R."""
    return nn.LayerNorm(width, eps=1e-6)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int | None = None, out: int | None = None) -> None:
        super().__init__()
        hidden = hidden or MLP_RATIO * width
        self.fc1 = nn.Linear(width, hidden)
        self.activation: nn.Module = nn.GELU()
        self.fc2 = nn.Linear(hidden, out or width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., width) to (..., out)."""
        return self.fc2(self.activation(self.fc1(tokens)))


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, width: int, heads: int, *, half_rotary: bool = False) -> None:
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attention = SelfAttention(width, heads, half_rotary=half_rotary)
        self.norm2 = layer_norm(width)
        self.mlp = MLP(width)

    def forward(self, tokens: Tensor, rotary: Rotary | None) -> Tensor:
        """Refine `tokens` (batch, tokens, width)."""
        tokens = tokens + self.attention(self.norm1(tokens), rotary)
        return tokens + self.mlp(self.norm2(tokens))


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to a context, and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attention = SelfAttention(width, heads)
        self.norm_context = layer_norm(width)
        self.norm2 = layer_norm(width)
        self.cross_attention = CrossAttention(width, heads)
        self.norm3 = layer_norm(width)
        self.mlp = MLP(width)

    def forward(
        self,
        tokens: Tensor,
        context: Tensor,
        rotary: Rotary | None = None,
        context_rotary: Rotary | None = None,
        observer: AttentionObserver | None = None,
    ) -> Tensor:
        """Refine `tokens` (batch, tokens, width) by what `context` (batch, context tokens, width) holds."""
        tokens = tokens + self.attention(self.norm1(tokens), rotary)
        context = self.norm_context(context)
        tokens = tokens + self.cross_attention(
            self.norm2(tokens), context, rotary, context_rotary, observer
        )
        return tokens + self.mlp(self.norm3(tokens))


class ModulatedLayerNorm(nn.Module):
    """Layer normalisation shifted and scaled by a condition vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = layer_norm(width)
        self.modulation = nn.Linear(width, 2 * width)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Normalise `tokens` (batch, tokens, width) under `condition` (batch, width)."""
        shift, scale = self.modulation(F.silu(condition)).unsqueeze(1).chunk(2, dim=-1)
        return self.norm(tokens) * (1 + scale) + shift


class ModulatedBlock(nn.Module):
    """An encoder block whose norms follow a condition vector."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = ModulatedLayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm2 = ModulatedLayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, tokens: Tensor, condition: Tensor, rotary: Rotary | None) -> Tensor:
        """Refine `tokens` (batch, tokens, width) under `condition` (batch, width)."""
        tokens = tokens + self.attention(self.norm1(tokens, condition), rotary)
        return tokens + self.mlp(self.norm2(tokens, condition))
