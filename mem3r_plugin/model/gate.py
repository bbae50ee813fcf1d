"""Mem3R's learned gate: how much of each state channel a frame may overwrite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mem3r_plugin.model.blocks import MLP
from mem3r_plugin.model.config import NetworkConfig

OPEN_BIAS = 4.0
"""Bias at which an untrained gate lets 98 % through, which is nearly CUT3R."""


class ChannelGate(nn.Module):
    """zeta = sigmoid(MLP([state token, image feature])), one value per token and channel."""

    def __init__(self, encoder_width: int, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = MLP(width + encoder_width, hidden, width)

    def reset_open(self) -> None:
        """Let nearly everything through, whatever the input."""
        nn.init.zeros_(self.mlp.fc2.weight)
        nn.init.constant_(self.mlp.fc2.bias, OPEN_BIAS)

    def forward(self, state: Tensor, feature: Tensor) -> Tensor:
        """Gate (batch, tokens, width) from `state`, of that shape, and `feature` (batch, encoder width)."""
        feature = feature.unsqueeze(1).expand(-1, state.shape[1], -1)
        return torch.sigmoid(self.mlp(torch.cat([state, feature], dim=-1)))


def build_gate(config: NetworkConfig) -> ChannelGate | None:
    """The gate a network's configuration asks for; None lets everything through."""
    if config.gate.kind == "none":
        return None
    return ChannelGate(config.encoder.width, config.decoder.width, config.gate.hidden)
