"""Gaussians fitted to views by gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mem3r_gsplat.gaussians import Gaussians
from mem3r_gsplat.rasteriser import Rasteriser
from mem3r_gsplat.views import View

_LAST_RATE = 0.01
"""Learning rate of the positions at the end, relative to the first one."""


@dataclass(frozen=True)
class OptimiserConfig:
    """How Gaussians are fitted; rates are those of the 3-D Gaussian splatting paper."""

    steps: int = 7000
    """Optimiser steps, one picture each."""
    ssim: float = 0.2
    """Share of the structural similarity in the loss of colours; the rest is the absolute difference."""
    depth: float = 0.2
    """Weight of the difference in log depth, where the scan's depth can be trusted."""
    position_rate: float = 1.6e-4
    """Learning rate of positions, relative to the size of the scene; falls to a hundredth."""
    scale_rate: float = 5e-3
    """Learning rate of log scales."""
    rotation_rate: float = 1e-3
    """Learning rate of quaternions."""
    opacity_rate: float = 5e-2
    """Learning rate of opacity logits."""
    colour_rate: float = 2.5e-3
    """Learning rate of the constant colour; a twentieth of it for the other coefficients."""
    degree_every: int = 1000
    """Steps after which the next degree of the spherical harmonics joins in."""
    densify_from: int = 500
    """Step from which Gaussians are split, copied and pruned."""
    densify_until: float = 0.5
    """Share of the steps after which their number stays."""


class Rendering(NamedTuple):
    """What Gaussians look like from a view."""

    colour: Tensor
    """RGB (H, W, 3)."""
    depth: Tensor
    """Expected z-depth (H, W)."""
    opacity: Tensor
    """How much of each pixel is covered, (H, W)."""


class SplatOptimiser:
    """Fits Gaussians to one view after the other; their number follows gsplat's default strategy.

    Opacities are not reset on the way, as the strategy would: that is for seeds in the wrong
    places, and these come with depth.

    Args:
        gaussians: Where to start.
        config: How.
        rasterise: What renders them.
        scene_scale: What counts as large, in the scan's unit.
        device: Where to compute.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        config: OptimiserConfig,
        rasterise: Rasteriser,
        scene_scale: float,
        device: torch.device,
    ) -> None:
        from gsplat import DefaultStrategy

        self._config, self._rasterise, self._scene_scale = config, rasterise, scene_scale
        self._degree = gaussians.sh_degree
        tensors = gaussians.to(device).tensors()
        self._parameters = {name: nn.Parameter(tensor) for name, tensor in tensors.items()}
        self._optimisers = {
            name: torch.optim.Adam([self._parameters[name]], lr=rate, eps=1e-15)
            for name, rate in self._rates().items()
        }
        self._strategy = DefaultStrategy(
            refine_start_iter=config.densify_from,
            refine_stop_iter=int(config.densify_until * config.steps),
            reset_every=config.steps + 1,
        )
        self._strategy.check_sanity(self._parameters, self._optimisers)
        self._strategy_state = self._strategy.initialize_state(scene_scale)
        self.steps = 0

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians as they are now."""
        return Gaussians(**{name: tensor.detach() for name, tensor in self._parameters.items()})

    def step(self, view: View) -> float:
        """Fit a view, which lies on the optimiser's device; returns the loss."""
        self.steps += 1  # from 1: gsplat 1.4 would reset all opacities at step 0
        progress = min(1.0, self.steps / self._config.steps)
        (group,) = self._optimisers["means"].param_groups
        group["lr"] = self._rates()["means"] * _LAST_RATE**progress
        degree = min(self._degree, self.steps // self._config.degree_every)
        rendering, information = self._render(view, degree)
        strategy = (self._parameters, self._optimisers, self._strategy_state, self.steps)
        self._strategy.step_pre_backward(*strategy, information)
        loss = self._loss(rendering, view)
        loss.backward()
        for optimiser in self._optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self._strategy.step_post_backward(*strategy, information, packed=False)
        return float(loss.detach())

    @torch.no_grad()
    def render(self, view: View) -> Rendering:
        """What a camera sees; its picture and depth play no part."""
        return self._render(view, self._degree)[0]

    def extend(self, gaussians: Gaussians) -> None:
        """Take in more Gaussians, of the same degree; what is known of the others' gradients stays."""
        for name, fresh in gaussians.tensors().items():
            optimiser, old = self._optimisers[name], self._parameters[name]
            fresh = fresh.to(old)
            joined = nn.Parameter(torch.cat([old.detach(), fresh]))
            state = optimiser.state.pop(old, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in state:
                    state[moment] = torch.cat([state[moment], torch.zeros_like(fresh)])
            optimiser.param_groups[0]["params"] = [joined]
            optimiser.state[joined] = state
            self._parameters[name] = joined
        self._strategy_state = self._strategy.initialize_state(self._scene_scale)

    def _render(self, view: View, degree: int) -> tuple[Rendering, dict[str, Tensor]]:
        parameters = self._parameters
        width, height = view.size
        colours, opacity, information = self._rasterise(
            parameters["means"],
            parameters["quats"],
            parameters["scales"].exp(),
            parameters["opacities"].sigmoid(),
            torch.cat([parameters["sh0"], parameters["shN"]], dim=1),
            view.world_to_camera[None],
            view.intrinsics[None],
            width,
            height,
            sh_degree=degree,
            packed=False,
            render_mode="RGB+ED",
        )
        rendering = Rendering(colours[0, ..., :3], colours[0, ..., 3], opacity[0, ..., 0])
        return rendering, information

    def _loss(self, rendering: Rendering, view: View) -> Tensor:
        share = self._config.ssim
        loss = (1 - share) * (rendering.colour - view.image).abs().mean()
        loss = loss + share * (1 - structural_similarity(rendering.colour, view.image))
        return loss + self._config.depth * depth_loss(rendering, view)

    def _rates(self) -> dict[str, float]:
        config = self._config
        return {
            "means": config.position_rate * self._scene_scale,
            "scales": config.scale_rate,
            "quats": config.rotation_rate,
            "opacities": config.opacity_rate,
            "sh0": config.colour_rate,
            "shN": config.colour_rate / 20,
        }


def depth_loss(rendering: Rendering, view: View) -> Tensor:
    """Mean difference of log depth, weighted by how far both depths can be trusted."""
    known = (view.depth > 0) & (rendering.depth > 0)
    weight = view.weight * known * rendering.opacity.detach()
    difference = rendering.depth.clamp_min(1e-6).log() - view.depth.clamp_min(1e-6).log()
    return (weight * difference.abs()).sum() / weight.sum().clamp_min(1e-6)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of two pictures (H, W, 3) in [0, 1]."""
    from pytorch_msssim import ssim

    pair = [picture.permute(2, 0, 1)[None] for picture in (first, second)]
    similarity: Tensor = ssim(*pair, data_range=1.0, size_average=True)
    return similarity


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in [0, 1]."""
    return float(-10 * torch.log10((first.clamp(0, 1) - second).square().mean().clamp_min(1e-10)))
