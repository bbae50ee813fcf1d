"""The dense prediction head: four token maps fused into one map per pixel (cut3r_backbone.md section 7.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mem3r_plugin.model.config import DPTConfig
from mem3r_plugin.model.precision import in_float32


def upsample_twice(maps: Tensor) -> Tensor:
    """Bilinear x2 on (batch, channels, height, width), corners aligned."""
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """Two pre-activated 3x3 convolutions around a skip connection."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Refine (batch, features, height, width)."""
        return maps + self.conv2(F.relu(self.conv1(F.relu(maps))))


class Fusion(nn.Module):
    """Merge a finer level into a coarser one and double the resolution.

    The coarsest level has nothing to merge, so its `lateral` is never used; it exists because the public
    checkpoint holds its weights.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lateral = ResidualUnit(features)
        self.refine = ResidualUnit(features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, coarse: Tensor, fine: Tensor | None = None) -> Tensor:
        """(batch, features, height, width) to (batch, features, 2 height, 2 width)."""
        merged = coarse if fine is None else coarse + self.lateral(fine)
        # The reference upsamples first; a 1x1 convolution gives the same before, on a quarter of the pixels.
        return upsample_twice(self.out(self.refine(merged)))


class DPTHead(nn.Module):
    """From encoder and decoder tokens to one vector per pixel."""

    def __init__(self, encoder_width: int, width: int, channels: int, config: DPTConfig) -> None:
        super().__init__()
        one, two, three, four = config.levels
        features = config.features
        self.reassemble = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(encoder_width, one, 1), nn.ConvTranspose2d(one, one, 4, stride=4)
                ),
                nn.Sequential(nn.Conv2d(width, two, 1), nn.ConvTranspose2d(two, two, 2, stride=2)),
                nn.Sequential(nn.Conv2d(width, three, 1)),
                nn.Sequential(
                    nn.Conv2d(width, four, 1), nn.Conv2d(four, four, 3, stride=2, padding=1)
                ),
            ]
        )
        self.project = nn.ModuleList(
            nn.Conv2d(level, features, 3, padding=1, bias=False) for level in config.levels
        )
        self.fusion = nn.ModuleList(Fusion(features) for _ in config.levels)
        self.output = nn.ModuleList(
            [
                nn.Conv2d(features, features // 2, 3, padding=1),
                nn.Conv2d(features // 2, config.output_features, 3, padding=1),
                nn.Conv2d(config.output_features, channels, 1),
            ]
        )

    def forward(self, levels: tuple[Tensor, ...], grid: tuple[int, int]) -> Tensor:
        """Raw values (batch, height, width, channels), channels last.

        Args:
            levels: four token maps (batch, rows * columns, width of the level), finest first.
            grid: rows and columns of the patch grid.
        """
        maps = [
            project(reassemble(tokens.transpose(1, 2).unflatten(2, grid)))
            for tokens, reassemble, project in zip(
                levels, self.reassemble, self.project, strict=True
            )
        ]
        # An odd grid is halved upwards, so its upsampled map is one row or column too large.
        path = self.fusion[3](maps[3])[..., : grid[0], : grid[1]]
        for level in (2, 1, 0):
            path = self.fusion[level](path, maps[level])
        path = upsample_twice(self.output[0](path))
        path = F.relu(self.output[1](path))
        with in_float32(path.device):  # depth in steps of a bfloat16 would be terraced
            return self.output[2](path.float()).permute(0, 2, 3, 1)
