"""MeMix: write the state tokens least aligned with the frame, keep the others exactly (arXiv 2603.15330).

From the paper: the state is a mixture of memory patches; each patch is scored by the dot product of its
candidate with the frame's image tokens; a binary mask lets the k lowest-scored be written, 708 of 768.

Ours, where its text was not at hand: a patch is one token; candidate and image tokens, which differ in width,
are compared as the last decoder layer compares them, by its queries and keys; the scores of a token are
averaged over the image tokens, which needs no attention matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mem3r_plugin.model.updates.rule import Update, UpdateContext

WRITTEN = 708 / 768
"""Share of the state tokens that a frame writes."""


class MeMixUpdate:
    """Gate 1 for the share `WRITTEN` of the tokens that agree least with the frame, 0 for the rest."""

    ignores_update_flag = False

    def step(self) -> MeMixStep:
        """Begin with one frame."""
        return MeMixStep()


class MeMixStep:
    """Keeps the last layer's score of every state token."""

    def __init__(self) -> None:
        self._score: Tensor | None = None

    def observer(self, query: Tensor, key: Tensor) -> None:
        """Score by one layer's queries (batch, heads, state tokens, channels) and keys, pose token first."""
        mean_key = key[:, :, 1:].float().mean(dim=2, keepdim=True)
        self._score = (query.float() * mean_key).sum(dim=(1, 3))

    def finish(self, context: UpdateContext) -> Update:
        """The mask; the first frame writes everything."""
        if context.first:
            return Update(None, {})
        assert self._score is not None, "the decoder calls the observer before finish"
        ranked = self._score.argsort(dim=-1, stable=True)  # stable: equal scores, the same choice
        written = ranked[:, : round(WRITTEN * ranked.shape[1])]
        mask = torch.zeros_like(self._score).scatter(1, written, 1.0)
        return Update(mask.unsqueeze(-1), {})
