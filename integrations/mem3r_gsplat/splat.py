"""From a scan to optimised Gaussians, a film of them, and how good they are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader, RandomSampler, Subset

from mem3r_gsplat.fly_through import FRAMES_PER_SECOND, smooth_path, write_fly_through
from mem3r_gsplat.optimise import OptimiserConfig, SplatOptimiser, psnr
from mem3r_gsplat.ply import write_splat_ply
from mem3r_gsplat.rasteriser import Rasteriser, load_rasteriser
from mem3r_gsplat.seeds import SeedConfig, seed_gaussians
from mem3r_gsplat.views import ScanViews, View, scene_scale
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.exports.files import write_file
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan


@dataclass(frozen=True)
class SplatConfig:
    """Gaussians from one scan."""

    scan: tyro.conf.Positional[Path]
    """Folder of the scan; refine it first for sharp results."""
    output: tyro.conf.Positional[Path]
    """The PLY file; a film (.mp4) and a report (.json) go beside it."""
    seeds: SeedConfig = field(default_factory=SeedConfig)
    """Where the Gaussians begin."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """How they are fitted."""
    hold_out: int = 8
    """Every so many-th picture takes no part and measures the result; 0 uses all pictures."""
    film_seconds: float = 10.0
    """Length of the fly-through; 0 makes none."""
    seed: int = 0
    """Decides the order of the pictures."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: the output is no PLY file, or every picture would be held out.
        """
        if self.output.suffix != ".ply":
            raise ConfigError(f"{self.output} is no name of a splat file; it must end in .ply")
        if self.hold_out < 0 or self.hold_out == 1:
            raise ConfigError(f"hold_out is {self.hold_out}; it must be 0, or at least 2")


@dataclass(frozen=True)
class SplatReport:
    """What came of it; also the `.json` file beside the Gaussians."""

    gaussians: int
    """Their number in the end."""
    steps: int
    """Optimiser steps taken."""
    psnr_held_out: float | None
    """Mean over the pictures held out, in dB; None if there were none."""
    held_out: int
    """Their number."""
    scale: str
    """Metres per unit, as far as they are known."""


def splat(
    config: SplatConfig,
    progress: ProgressCallback = no_progress,
    backend: tuple[Rasteriser, torch.device] | None = None,
) -> SplatReport:
    """Fit Gaussians to a scan; writes the PLY file, the film and the report.

    Args:
        config: What to do.
        progress: Is told how far it is.
        backend: Rasteriser and device; by default gsplat's on the GPU.

    Raises:
        ConfigError: gsplat cannot run here; nothing was done.
        ScanError: the scan cannot be read or has no depth.
        OutputError: a file cannot be written.
    """
    rasterise, device = backend or load_rasteriser()
    scan = Scan.open(config.scan)
    torch.manual_seed(config.seed)
    seeds = seed_gaussians(scan, config.seeds)
    optimiser = SplatOptimiser(seeds, config.optimiser, rasterise, scene_scale(scan), device)
    with tempfile.TemporaryDirectory(prefix="mem3r-splat-") as cache:
        views = ScanViews(scan, Path(cache))
        training, held_out = _split(len(views), config.hold_out)
        for view in islice(_endless(views, training), config.optimiser.steps):
            optimiser.step(view.to(device))
            progress("fitting Gaussians", optimiser.steps, config.optimiser.steps)
        scores = [_score(optimiser, views[index].to(device)) for index in held_out]
        report = SplatReport(
            gaussians=len(optimiser.gaussians),
            steps=optimiser.steps,
            psnr_held_out=float(np.mean(scores)) if scores else None,
            held_out=len(scores),
            scale=describe_scale(scan),
        )
        write_splat_ply(config.output, optimiser.gaussians, describe_scale(scan))
        if config.film_seconds:
            poses = np.stack([frame.camera_to_world for frame in scan.frames])
            path = smooth_path(poses, round(config.film_seconds * FRAMES_PER_SECOND))
            film = config.output.with_suffix(".mp4")
            write_fly_through(film, path, views[0].to(device), optimiser.render)
    content = json.dumps(asdict(report), indent=2) + "\n"
    write_file(config.output.with_suffix(".json"), content.encode())
    return report


def _split(count: int, hold_out: int) -> tuple[list[int], list[int]]:
    """Views to fit and views to measure by."""
    held_out = list(range(hold_out // 2, count, hold_out)) if hold_out else []
    return [index for index in range(count) if index not in held_out], held_out


def _endless(views: ScanViews, chosen: Sequence[int]) -> Iterator[View]:
    """Views in random order, read ahead by other processes, round after round."""
    subset = Subset(views, chosen)
    order = RandomSampler(subset, generator=torch.Generator().manual_seed(torch.initial_seed()))
    loader = DataLoader(
        subset,
        batch_size=None,
        sampler=order,
        num_workers=2 if torch.cuda.is_available() else 0,
        persistent_workers=torch.cuda.is_available(),
    )
    while True:
        yield from loader


def _score(optimiser: SplatOptimiser, view: View) -> float:
    return psnr(optimiser.render(view).colour, view.image)
