"""From pixels, or from a map of rays, to tokens."""

from __future__ import annotations

from torch import Tensor, nn

from mem3r_plugin.model.blocks import EncoderBlock, layer_norm
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.precision import working_dtype
from mem3r_plugin.model.rotary import image_rotary


class PatchEncoder(nn.Module):
    """A ViT over non-overlapping patches, with rotary positions and no class token."""

    def __init__(
        self, channels: int, width: int, depth: int, heads: int, *, half_rotary: bool = False
    ) -> None:
        super().__init__()
        self.head_channels = width // heads
        self.patch_embedding = nn.Conv2d(channels, width, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(
            EncoderBlock(width, heads, half_rotary=half_rotary) for _ in range(depth)
        )
        self.norm = layer_norm(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Tokens (batch, rows * columns, width) of `maps` (batch, channels, height, width).

        Raises:
            ValueError: height or width is not a multiple of the patch side.
        """
        height, width = maps.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"image of {width}x{height} pixels: both must be multiples of {PATCH}")
        grid, dtype = (height // PATCH, width // PATCH), working_dtype(maps.device)
        rotary = image_rotary(*grid, self.head_channels, maps.device, dtype)
        tokens = self.patch_embedding(maps).flatten(2).transpose(1, 2).float()
        for block in self.blocks:
            tokens = block(tokens, rotary)
        return self.norm(tokens)
