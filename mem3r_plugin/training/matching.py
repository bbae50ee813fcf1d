"""Teaching a recurrent network to compare two pictures.

The state could hold the last picture, so that the next one is compared with it, but a network that knows
single pictures only does not find that out in any time a CPU has: as long as nothing is copied there is
nothing to compare, and as long as nothing is compared there is no reason to copy. Two helps end that:

* `begin_by_copying` sets the decoders up so that the state starts as a copy of the last picture, and every
  image token looks at the state token of its own place;
* `TokenFlow`, which only training has, compares the encoder's tokens directly, which is learned at once and
  makes the encoder keep what comparing needs.

From there on everything is learned as usual, and the copy is free to become something better.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mem3r_plugin.model.attention import CrossAttention, SelfAttention
from mem3r_plugin.model.blocks import DecoderBlock, EncoderBlock
from mem3r_plugin.model.config import EncoderConfig
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.model.precision import working_dtype
from mem3r_plugin.model.rotary import image_rotary

PARTS = 4
"""Parts of a patch, two by two, whose motion is told apart."""

_LAYERS = 3
"""Layers of the network that compares tokens."""
_SHARP = 6.0
"""Size of equal queries and keys at which the state's attention falls on its own place nearly alone."""
_SOFT = 4.5
"""The same for image tokens, which also see a little of their neighbours."""
_LOOK = 0.7
"""How much of what the state holds an image token takes up in each layer."""
_FORGET = 0.8
"""How much of the picture before is taken out of the state when the next one comes in."""
_QUIET = 0.1
"""What is left of everything else the state decoder does."""
_CONTENT = 0.3
"""What is left of the content's part in where image tokens look."""


class TokenFlow(nn.Module):
    """Where the parts of each patch were in the view before, from the encoder's tokens of both views."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.head_channels = config.width // config.heads
        self.join = nn.Linear(2 * config.width, config.width)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.width, config.heads) for _ in range(_LAYERS)
        )
        self.flow = nn.Linear(config.width, PARTS * 2)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Motion in patches, as (x, y).

        Args:
            tokens: of all views (batch, views, rows * columns, encoder width).
            grid: rows and columns of the patch grid.

        Returns:
            (batch, views - 1, rows * columns, 4, 2).
        """
        rotary = image_rotary(
            *grid, self.head_channels, tokens.device, working_dtype(tokens.device)
        )
        pairs = torch.cat([tokens[:, :-1], tokens[:, 1:]], dim=-1)
        joined = self.join(pairs).float().flatten(0, 1)
        for block in self.blocks:
            joined = block(joined, rotary)
        return self.flow(joined).unflatten(-1, (PARTS, 2)).unflatten(0, pairs.shape[:2])


@torch.no_grad()
def begin_by_copying(network: ReconstructionNetwork) -> None:
    """Lets the state begin as a copy of the last picture, and the image decoder look at it place by place.

    What the encoder, the heads and the image decoder's own layers know is kept; what the state decoder and
    the gate knew is not.
    """
    decoder, size = network.decoder, network.config.decoder.width
    # The state before the first picture has the size of a written one, so that it can be taken out like one.
    start = decoder.embed_state(decoder.initial_tokens).std(dim=-1).mean()
    decoder.embed_state.weight.div_(start)
    decoder.embed_state.bias.div_(start)
    state_blocks, image_blocks = _blocks(decoder.state_blocks), _blocks(decoder.image_blocks)
    for block in state_blocks:
        _quieten(block)
    first = state_blocks[0]
    _look_at_own_place(first.cross_attention, _SHARP, _QUIET)
    _pass_on(first.cross_attention, 1.0)
    _take_out_own_place(first.attention, size)
    decoder.state_norm.reset_parameters()
    for block in image_blocks:
        _look_at_own_place(block.cross_attention, _SOFT, _CONTENT)
        _pass_on(block.cross_attention, _LOOK)
    if network.state_gate is not None:
        network.state_gate.reset_open()


def _blocks(modules: nn.ModuleList) -> list[DecoderBlock]:
    return [module for module in modules if isinstance(module, DecoderBlock)]


def _quieten(block: DecoderBlock) -> None:
    for norm in (block.norm1, block.norm2, block.norm3, block.norm_context):
        norm.reset_parameters()
    for branch in (block.attention.out, block.cross_attention.out, block.mlp.fc2):
        branch.weight.mul_(_QUIET)
        branch.bias.zero_()


def _look_at_own_place(attention: CrossAttention, sharpness: float, content: float) -> None:
    """Queries and keys that agree best where their rotary positions do, whatever the tokens hold."""
    for linear in (attention.query, attention.key):
        linear.weight.mul_(content)
        linear.bias.copy_(_same_for_all(attention.heads, len(linear.bias), sharpness))


def _pass_on(attention: CrossAttention, amount: float) -> None:
    nn.init.eye_(attention.value.weight)
    nn.init.zeros_(attention.value.bias)
    attention.out.weight.copy_(amount * torch.eye(len(attention.out.weight)))
    nn.init.zeros_(attention.out.bias)


def _take_out_own_place(attention: SelfAttention, width: int) -> None:
    query, key, value = attention.qkv.weight.split(width)
    query_bias, key_bias, value_bias = attention.qkv.bias.split(width)
    for weight, bias in ((query, query_bias), (key, key_bias)):
        weight.mul_(_QUIET)
        bias.copy_(_same_for_all(attention.heads, width, _SHARP))
    value.copy_(torch.eye(width))
    value_bias.zero_()
    attention.out.weight.copy_(-_FORGET * torch.eye(width))


def _same_for_all(heads: int, width: int, size: float) -> Tensor:
    """A vector (width,) that the rotary embedding turns by position in every head: u of y and of x."""
    quarter = torch.full((width // heads // 4,), size)
    nothing = torch.zeros_like(quarter)
    return torch.cat([quarter, nothing, quarter, nothing]).repeat(heads)
