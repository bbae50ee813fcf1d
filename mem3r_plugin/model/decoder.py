"""Twin decoders: the image reads the state while the state reads the image (cut3r_backbone.md section 4)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mem3r_plugin.model.attention import AttentionObserver
from mem3r_plugin.model.blocks import DecoderBlock, layer_norm
from mem3r_plugin.model.config import DecoderConfig
from mem3r_plugin.model.precision import working_dtype
from mem3r_plugin.model.rotary import image_rotary, state_rotary
from mem3r_plugin.model.side_by_side import side_by_side


class Decoded(NamedTuple):
    """What the twin decoders make of one frame."""

    candidate: Tensor
    """Candidate state (batch, state tokens, width)."""
    levels: tuple[Tensor, Tensor, Tensor]
    """Image tokens, pose token first, (batch, 1 + tokens, width), after 1/2 and 3/4 of the layers and at the
    end; only the last is normalised."""

    @property
    def pose_token(self) -> Tensor:
        """The refined pose token (batch, width)."""
        return self.levels[-1][:, 0]


class TwinDecoder(nn.Module):
    """Image and state decoder, interleaved layer by layer."""

    def __init__(self, encoder_width: int, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.initial_tokens = nn.Parameter(torch.randn(config.state_tokens, encoder_width) * 0.02)
        self.embed_state = nn.Linear(encoder_width, width)
        self.embed_image = nn.Linear(encoder_width, width)
        self.state_blocks = nn.ModuleList(
            DecoderBlock(width, config.state_heads) for _ in range(config.depth)
        )
        self.image_blocks = nn.ModuleList(
            DecoderBlock(width, config.image_heads) for _ in range(config.depth)
        )
        self.state_norm = layer_norm(width)
        self.image_norm = layer_norm(width)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first frame (batch, state tokens, width)."""
        return self.embed_state(self.initial_tokens).float().expand(batch_size, -1, -1)

    def forward(
        self,
        state: Tensor,
        pose_token: Tensor,
        image_tokens: Tensor,
        grid: tuple[int, int],
        observer: AttentionObserver | None = None,
    ) -> Decoded:
        """Decode one frame.

        Args:
            state: state tokens (batch, state tokens, width).
            pose_token: (batch, 1, width).
            image_tokens: encoder tokens (batch, rows * columns, encoder width).
            grid: rows and columns of the patch grid.
            observer: sees queries and keys of the state's attention to the image, layer by layer.
        """
        config, where = self.config, (state.device, working_dtype(state.device))
        image_channels = config.width // config.image_heads
        state_channels = config.width // config.state_heads
        image_at_image = image_rotary(*grid, image_channels, *where, pose_token=True)
        image_at_state = image_rotary(*grid, state_channels, *where, pose_token=True)
        state_at_image = state_rotary(config.state_tokens, image_channels, *where)
        state_at_state = state_rotary(config.state_tokens, state_channels, *where)

        image = torch.cat([pose_token, self.embed_image(image_tokens).float()], dim=1)
        levels = []
        for layer, (state_block, image_block) in enumerate(
            zip(self.state_blocks, self.image_blocks, strict=True), start=1
        ):
            state, image = side_by_side(
                partial(state_block, state, image, state_at_state, image_at_state, observer),
                partial(image_block, image, state, image_at_image, state_at_image),
                state.device,
            )
            if layer in (config.depth // 2, config.depth * 3 // 4):
                levels.append(image)
        return Decoded(self.state_norm(state), (levels[0], levels[1], self.image_norm(image)))
