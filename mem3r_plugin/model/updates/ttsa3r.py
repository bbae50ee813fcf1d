"""TTSA3R: write where the state is still moving and where the picture has changed (section 11).

The gate is the product of a temporal factor, from the change of a token's candidate since the frame before,
and a spatial one, from the change of the image patches it attends to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mem3r_plugin.model.attention import merge_heads
from mem3r_plugin.model.updates.rule import Update, UpdateContext

OFFSET = 1.5
"""Offset of the temporal factor, the method's only constant."""


class TTSA3RUpdate:
    """gamma = tau * kappa per state token.

    Args:
        as_published: also write frames that are not meant to update, as the published code does.
    """

    def __init__(self, *, as_published: bool = False) -> None:
        self.ignores_update_flag = as_published

    def step(self) -> TTSA3RStep:
        """Begin with one frame."""
        return TTSA3RStep(keep_always=self.ignores_update_flag)


class TTSA3RStep:
    """Accumulates the logits' mean over heads and layers, one (state tokens, image tokens) matrix."""

    def __init__(self, *, keep_always: bool) -> None:
        self._keep_always = keep_always
        self._layers = 0
        self._logits: Tensor | None = None

    def observer(self, query: Tensor, key: Tensor) -> None:
        """Take one layer's queries (batch, heads, state tokens, channels) and keys, pose token first."""
        heads, channels = query.shape[1], query.shape[-1]
        keys = merge_heads(key[:, :, 1:]).float()
        scaled = merge_heads(query).float() * (channels**-0.5 / heads)
        logits = scaled @ keys.mT
        self._logits = logits if self._logits is None else self._logits + logits
        self._layers += 1

    def finish(self, context: UpdateContext) -> Update:
        """The gate; the first frame writes everything."""
        kept = context.kept
        first = context.first or not kept  # a state written under another rule kept nothing
        if context.update or self._keep_always or first:
            kept = {"candidate": context.candidate, "image_tokens": context.image_tokens}
        if first:
            return Update(None, kept)
        gate = self.temporal(context) * self.spatial(context)
        return Update(gate.unsqueeze(-1), kept)

    def temporal(self, context: UpdateContext) -> Tensor:
        """Tau (batch, state tokens): how much a token's candidate moved, beside the others' motion."""
        moved = (context.candidate - context.kept["candidate"]).float().norm(dim=-1)
        # A static picture with a settled state moves nothing; 0/0 then means "no more than the others".
        relative = moved / moved.mean(dim=-1, keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)
        return torch.sigmoid(relative - OFFSET)

    def spatial(self, context: UpdateContext) -> Tensor:
        """Kappa (batch, state tokens): the strongest attended change among the image patches."""
        assert self._logits is not None, "the decoder calls the observer before finish"
        before = context.kept["image_tokens"].float()
        changed = 1 - F.cosine_similarity(context.image_tokens.float(), before, dim=-1)
        attended = (self._logits / self._layers).abs()
        return torch.sigmoid((attended * changed.unsqueeze(1)).amax(dim=-1))
