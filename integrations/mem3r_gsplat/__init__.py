"""Gaussian splats from a scan, optimised with gsplat; its rasteriser needs a CUDA GPU."""

from mem3r_gsplat.gaussians import Gaussians
from mem3r_gsplat.mapper import MapperConfig, OnlineMapper
from mem3r_gsplat.optimise import OptimiserConfig
from mem3r_gsplat.ply import write_splat_ply
from mem3r_gsplat.seeds import SeedConfig, seed_gaussians
from mem3r_gsplat.splat import SplatConfig, SplatReport, splat

__all__ = [
    "Gaussians",
    "MapperConfig",
    "OnlineMapper",
    "OptimiserConfig",
    "SeedConfig",
    "SplatConfig",
    "SplatReport",
    "seed_gaussians",
    "splat",
    "write_splat_ply",
]
