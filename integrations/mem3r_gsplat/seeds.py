"""The first Gaussians of a scan, from its confident points."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from mem3r_gsplat.gaussians import Gaussians, make_gaussians
from mem3r_plugin.errors import ConfigError, ScanError
from mem3r_plugin.exports import PointCloudConfig, colour_points, confident_points
from mem3r_plugin.scan import Scan

_NEIGHBOURS = 3
_LARGEST = 4.0  # times the median spacing; a point that stands alone is no boulder
_LEAST_OPAQUE, _MOST_OPAQUE = 0.1, 0.9


@dataclass(frozen=True)
class SeedConfig:
    """How the first Gaussians are made."""

    points: PointCloudConfig = field(default_factory=PointCloudConfig)
    """Which pixels become Gaussians."""
    sh_degree: int = 3
    """Degree of the spherical harmonics that hold the colours, 0 to 3."""

    def __post_init__(self) -> None:
        """Refuse a degree that viewers do not know.

        Raises:
            ConfigError: the degree is not 0, 1, 2 or 3.
        """
        if not 0 <= self.sh_degree <= 3:
            raise ConfigError(f"sh_degree is {self.sh_degree}, it must be 0, 1, 2 or 3")


def seed_gaussians(scan: Scan, config: SeedConfig | None = None) -> Gaussians:
    """A Gaussian for every confident point of a scan.

    Its size is the distance to the points around it, its opacity follows the confidence of the depth,
    its colour is the pixel's.

    Raises:
        ScanError: no frame of the scan has depth, or a picture cannot be read.
    """
    config = config or SeedConfig()
    cloud = confident_points(scan, config.points)
    if len(cloud) <= _NEIGHBOURS:
        raise ScanError(f"{scan.path} has depth at {len(cloud)} points only, too few for Gaussians")
    colours = colour_points(scan, cloud).astype(np.float32) / 255
    return make_gaussians(
        torch.from_numpy(cloud.positions).float(),
        torch.from_numpy(local_spacing(cloud.positions)).float(),
        torch.from_numpy(opacity_of(cloud.confidence)).float(),
        torch.from_numpy(colours),
        config.sh_degree,
    )


def local_spacing(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square distance (N,) from each point (N, 3) to its three nearest neighbours.

    Points that stand alone get at most four times the median.
    """
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(positions).query(positions, k=_NEIGHBOURS + 1)
    spacing = np.sqrt((distances[:, 1:] ** 2).mean(axis=1))
    median = float(np.median(spacing))
    return np.clip(spacing, 1e-3 * median, _LARGEST * median).astype(np.float64)


def opacity_of(confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    """Opacity (N,) of points by their confidence (N,): 0.1 where it is 1, towards 0.9 as it grows."""
    share = 1 - 1 / np.maximum(confidence.astype(np.float64), 1)
    return _LEAST_OPAQUE + (_MOST_OPAQUE - _LEAST_OPAQUE) * share
