"""CUT3R's pose memory: slots read and written by attention (cut3r_backbone.md section 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mem3r_plugin.model.blocks import DecoderBlock

BLOCKS = 2
"""Blocks of the reader and of the writer."""


class LocalMemory(nn.Module):
    """A residual stream of slots, each holding an appearance half and a pose half."""

    def __init__(self, encoder_width: int, width: int, slots: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.query = nn.Linear(encoder_width, width)
        self.slots = nn.Parameter(torch.randn(1, slots, 2 * width) * 0.02)
        self.masked_pose = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.first_pose_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.write_blocks = nn.ModuleList(DecoderBlock(2 * width, heads) for _ in range(BLOCKS))
        self.read_blocks = nn.ModuleList(DecoderBlock(2 * width, heads) for _ in range(BLOCKS))

    def initial(self, batch_size: int) -> dict[str, Tensor]:
        """The learned slots (batch, slots, 2 * width)."""
        return {"slots": self.slots.expand(batch_size, -1, -1)}

    def read(self, memory: dict[str, Tensor], feature: Tensor, *, first: bool) -> Tensor:
        """The pose token (batch, 1, width): learned for the first frame, else what the slots answer."""
        batch_size = feature.shape[0]
        if first:
            return self.first_pose_token.expand(batch_size, -1, -1)
        appearance = self.query(feature).unsqueeze(1)
        token = torch.cat([appearance, self.masked_pose.expand(batch_size, -1, -1)], dim=-1)
        for block in self.read_blocks:
            token = block(token, memory["slots"])
        return token[..., self.width :]

    def write(
        self, memory: dict[str, Tensor], feature: Tensor, pose_token: Tensor
    ) -> dict[str, Tensor]:
        """Slots after they have attended to the frame's appearance and refined pose (batch, width)."""
        token = torch.cat([self.query(feature), pose_token], dim=-1).unsqueeze(1)
        slots = memory["slots"]
        for block in self.write_blocks:
            slots = block(slots, token)
        return {"slots": slots}
