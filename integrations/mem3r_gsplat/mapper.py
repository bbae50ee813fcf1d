"""Gaussians that grow while frames arrive."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mem3r_gsplat.gaussians import Gaussians, make_gaussians
from mem3r_gsplat.optimise import OptimiserConfig, Rendering, SplatOptimiser
from mem3r_gsplat.ply import write_splat_ply
from mem3r_gsplat.rasteriser import Rasteriser, load_rasteriser
from mem3r_gsplat.seeds import opacity_of
from mem3r_gsplat.views import View, make_view
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.refine.depth.scan import resample_picture
from mem3r_plugin.stream.estimate import FrameEstimate

_COVERED = 0.5
"""Opacity from which a pixel counts as explained."""
_IN_FRONT = 0.9
"""A depth below this part of the rendered one is a surface that is not there yet."""


@dataclass(frozen=True)
class MapperConfig:
    """How Gaussians grow with a stream."""

    output: Path
    """The PLY file, written when the stream ends."""
    every: int = 5
    """Frames from one that is taken in to the next."""
    steps: int = 40
    """Optimiser steps after each of them."""
    recent: int = 8
    """The latest frames taken in, half of the steps are theirs."""
    memory: int = 120
    """Older frames kept for the other half, a fair sample of all; memory does not grow beyond."""
    pixel_stride: int = 2
    """Only every n-th row and column makes new Gaussians."""
    max_gaussians: int = 1_500_000
    """No new ones beyond this number."""
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(steps=30_000, densify_until=0.0)
    )
    """How they are fitted."""


class OnlineMapper:
    """A sink that maps a stream with Gaussians: what is new in a frame is added, then all is fitted.

    Works at the network's resolution. Constant colours, no spherical harmonics beyond.

    Args:
        config: How.
        backend: Rasteriser and device; by default gsplat's on the GPU.

    Raises:
        ConfigError: gsplat cannot run here.
    """

    def __init__(
        self, config: MapperConfig, backend: tuple[Rasteriser, torch.device] | None = None
    ) -> None:
        self._config = config
        self._rasterise, self._device = backend or load_rasteriser()
        self._optimiser: SplatOptimiser | None = None
        self._recent: deque[View] = deque(maxlen=config.recent)
        self._older: list[View] = []
        self._taken = 0
        self._random = random.Random(0)

    @property
    def gaussians(self) -> Gaussians | None:
        """The Gaussians so far; None before the first frame with depth."""
        return None if self._optimiser is None else self._optimiser.gaussians

    def open(self) -> None:
        """Nothing is written before the end."""

    def write(self, estimate: FrameEstimate) -> None:
        """Take in a frame if it is its turn."""
        if estimate.frame.index % self._config.every:
            return
        picture = resample_picture(estimate.frame.image, estimate.transform)
        view = make_view(
            picture,
            estimate.depth,
            estimate.confidence,
            estimate.intrinsics,
            estimate.camera_to_world,
        ).to(self._device)
        self._grow(view, estimate)
        if self._optimiser is None:
            return
        self._keep(view)
        for _ in range(self._config.steps):
            self._optimiser.step(self._choose())

    def close(self, complete: bool) -> None:
        """Write the Gaussians, of a stream that was broken off as well.

        Raises:
            OutputError: they cannot be written.
        """
        if self.gaussians is not None:
            write_splat_ply(self._config.output, self.gaussians)

    def _grow(self, view: View, estimate: FrameEstimate) -> None:
        """Add Gaussians where a frame shows what the others do not explain."""
        if self._optimiser is None:
            unexplained = estimate.depth > 0
            scale = float(np.median(estimate.depth[unexplained])) if unexplained.any() else 0.0
        else:
            if len(self._optimiser.gaussians) >= self._config.max_gaussians:
                return
            unexplained, scale = _unexplained(self._optimiser.render(view), view), 0.0
        fresh = _new_gaussians(estimate, view, unexplained, self._config.pixel_stride)
        if len(fresh) == 0:
            return
        if self._optimiser is None:
            self._optimiser = SplatOptimiser(
                fresh, self._config.optimiser, self._rasterise, scale, self._device
            )
        else:
            self._optimiser.extend(fresh)

    def _keep(self, view: View) -> None:
        """Remember a view; of those no longer recent a fair sample stays (reservoir sampling)."""
        if len(self._recent) == self._config.recent:
            leaving, self._taken = self._recent[0], self._taken + 1
            if len(self._older) < self._config.memory:
                self._older.append(leaving)
            elif (place := self._random.randrange(self._taken)) < self._config.memory:
                self._older[place] = leaving
        self._recent.append(view)

    def _choose(self) -> View:
        old = self._older and self._random.random() < 0.5
        return self._random.choice(self._older if old else self._recent)


def mapper_beside(scan: Path) -> OnlineMapper:
    """The sink `splat` of `mem3r run`: leaves `SCAN.splat.ply` beside the scan.

    Raises:
        ConfigError: gsplat cannot run here.
    """
    return OnlineMapper(MapperConfig(scan.with_name(f"{scan.name}.splat.ply")))


def _unexplained(rendering: Rendering, view: View) -> np.ndarray:
    """Pixels (h, w) with depth that are not covered, or lie before what is rendered there."""
    missing = rendering.opacity < _COVERED
    in_front = view.depth < _IN_FRONT * rendering.depth
    unexplained: np.ndarray = ((missing | in_front) & (view.depth > 0)).cpu().numpy()
    return unexplained


def _new_gaussians(
    estimate: FrameEstimate, view: View, wanted: np.ndarray, stride: int
) -> Gaussians:
    """Gaussians on a grid of the wanted pixels (h, w), as large as the grid's step there."""
    grid = np.s_[::stride, ::stride]
    chosen, camera = wanted[grid], estimate.intrinsics
    depth = estimate.depth[grid][chosen].astype(np.float64)
    points = camera.unproject(camera.pixel_centres()[grid][chosen], depth)
    confidence = estimate.confidence[grid][chosen]
    return make_gaussians(
        torch.from_numpy(transform_points(estimate.camera_to_world, points)).float(),
        torch.from_numpy(stride * depth / camera.fx).float(),
        torch.from_numpy(opacity_of(confidence)).float(),
        view.image.cpu()[grid][torch.from_numpy(chosen)],
        sh_degree=0,
    )
