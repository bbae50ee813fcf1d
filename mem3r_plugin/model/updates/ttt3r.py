"""TTT3R: tokens that attend strongly to the frame learn more from it (cut3r_backbone.md section 10)."""

from __future__ import annotations

import torch
from torch import Tensor

from mem3r_plugin.model.updates.rule import Update, UpdateContext


class TTT3RUpdate:
    """beta = sigmoid(mean attention logit of a state token), over layers, heads and image tokens."""

    ignores_update_flag = False

    def step(self) -> TTT3RStep:
        """Begin with one frame."""
        return TTT3RStep()


class TTT3RStep:
    """Accumulates mean logits without an attention matrix: mean_j <q, k_j> = <q, mean_j k_j>."""

    def __init__(self) -> None:
        self._layers: list[Tensor] = []

    def observer(self, query: Tensor, key: Tensor) -> None:
        """Take one layer's queries (batch, heads, state tokens, channels) and keys."""
        scale = query.shape[-1] ** -0.5
        mean_key = key.float().mean(dim=2, keepdim=True)
        self._layers.append((query.float() * mean_key).sum(-1).mean(1) * scale)

    def finish(self, context: UpdateContext) -> Update:
        """The gate; the first frame writes everything."""
        if context.first:
            return Update(None, {})
        mean_logit = torch.stack(self._layers).mean(0)
        return Update(torch.sigmoid(mean_logit).unsqueeze(-1), {})
