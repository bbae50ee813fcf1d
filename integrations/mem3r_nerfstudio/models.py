"""Nerfstudio's models, supervised by depth as far as it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.models.depth_nerfacto import DepthNerfactoModel, DepthNerfactoModelConfig
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from torch import Tensor
from torch.nn import functional

from mem3r_nerfstudio.lpips import lpips_where_available


@dataclass
class Mem3RNerfactoModelConfig(NerfactoModelConfig):
    """Nerfacto that trains without a network, too."""

    _target: type = field(default_factory=lambda: Mem3RNerfactoModel)


class Mem3RNerfactoModel(NerfactoModel):
    """Nerfacto whose LPIPS is optional."""

    def populate_modules(self) -> None:
        """Build the model."""
        with lpips_where_available():
            super().populate_modules()


@dataclass
class Mem3RDepthNerfactoModelConfig(DepthNerfactoModelConfig):
    """Depth-nerfacto with weights for depth."""

    _target: type = field(default_factory=lambda: Mem3RDepthNerfactoModel)
    depth_loss_mult: float = 1e-2
    """Lambda of the depth loss; ten times nerfstudio's, as depth is dense here."""


class Mem3RDepthNerfactoModel(DepthNerfactoModel):
    """Depth-nerfacto whose rays take part in the depth loss as often as their depth can be trusted."""

    def populate_modules(self) -> None:
        """Build the model."""
        with lpips_where_available():
            super().populate_modules()

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """The metrics of depth-nerfacto, its depth loss weighted in the mean over many steps."""
        if self.training and "depth_weight" in batch:
            batch = {
                **batch,
                "depth_image": drawn_depth(batch["depth_image"], batch["depth_weight"]),
            }
        metrics: dict[str, Any] = super().get_metrics_dict(outputs, batch)
        return metrics


def drawn_depth(depth: Tensor, weight: Tensor) -> Tensor:
    """Depth (...) kept with the probability `weight` (...), else 0, which nerfstudio's losses pass over.

    Nerfstudio's depth losses know no weights; drawing weights them without a bias.
    """
    return torch.where(torch.rand_like(weight) < weight, depth, 0.0)


@dataclass
class Mem3RSplatfactoModelConfig(SplatfactoModelConfig):
    """Splatfacto with depth supervision."""

    _target: type = field(default_factory=lambda: Mem3RSplatfactoModel)
    output_depth_during_training: bool = True
    """If True, output depth during training, which depth supervision needs."""
    depth_loss_mult: float = 0.2
    """Weight of the difference in log depth."""


class Mem3RSplatfactoModel(SplatfactoModel):
    """Splatfacto whose Gaussians are held at the scan's depth where it can be trusted."""

    config: Mem3RSplatfactoModelConfig

    def populate_modules(self) -> None:
        """Build the model."""
        with lpips_where_available():
            super().populate_modules()

    def get_loss_dict(
        self,
        outputs: dict[str, Any],
        batch: dict[str, Any],
        metrics_dict: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Splatfacto's losses and that of depth."""
        losses: dict[str, Tensor] = super().get_loss_dict(outputs, batch, metrics_dict)
        if self.training and "depth_image" in batch and outputs["depth"] is not None:
            depth, weight = (
                _resized(batch[key].to(self.device), outputs["depth"])
                for key in ("depth_image", "depth_weight")
            )
            weight = weight * outputs["accumulation"].detach()
            loss = log_depth_loss(outputs["depth"], depth, weight)
            losses["depth_loss"] = self.config.depth_loss_mult * loss
        return losses


def log_depth_loss(rendered: Tensor, depth: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean difference of log depth; all (H, W, 1), depth 0 = unknown."""
    weight = weight * (depth > 0) * (rendered > 0)
    difference = rendered.clamp_min(1e-6).log() - depth.clamp_min(1e-6).log()
    return (weight * difference.abs()).sum() / weight.sum().clamp_min(1e-6)


def _resized(values: Tensor, like: Tensor) -> Tensor:
    """A map (H, W, 1) at the size of another; the nearest value, as depth must not be blended."""
    if values.shape == like.shape:
        return values
    resized = functional.interpolate(values.permute(2, 0, 1)[None], tuple(like.shape[:2]))
    return resized[0].permute(1, 2, 0)
