"""The options of a fusion."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mem3r_plugin.errors import ConfigError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

LEAST_MEMORY = 400_000_000
"""Bytes below which a fusion cannot work."""


@dataclass(frozen=True)
class FusionConfig:
    """How depth maps are fused into a surface."""

    voxel: float | None = None
    """Distance of two voxels in the scan's unit; by default 1/150 of the first frame's median depth, or
    the width of a pixel there if that is more."""
    truncation: float | None = None
    """How far from a surface a frame says something; by default four voxels."""
    max_depth: float | None = None
    """Depth beyond this is not used; in the scan's unit."""
    confidence: float = 0.0
    """Depth of lower confidence is not used: from 0, everything, to 1, nothing."""
    max_angle: float | None = None
    """Depth seen at a flatter angle to its surface, in degrees from head-on, is not used. That takes
    out the flying pixels at depth edges as well; 90 keeps all. By default 80, but all of what a sensor
    measured (`mem3r import-rgbd`)."""
    cross_check: int = 0
    """Depth that the frame so many steps before or after looks right through is not used; 0 asks none.
    Takes out what floats in free space; where poses change later, all is fused anew."""
    stride: int = 1
    """Take every stride-th frame."""
    memory: str = "4GB"
    """How much the fusion may hold at a time, on top of what the program needs by itself; the rest
    waits on disk."""
    device: str = "cpu"
    """Where frames are fused: cpu, or cuda for a GPU, of whose memory the blocks then take `memory`."""
    checkpoint_every: int = 500
    """Save after this many frames, for --resume."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: a value makes no sense.
        """
        for name in ("voxel", "truncation", "max_depth"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}, it must be above 0")
        for name, least in (("stride", 1), ("checkpoint_every", 1), ("cross_check", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must be at least {least}")
        if not 0 <= self.confidence <= 1:
            raise ConfigError(f"confidence is {self.confidence}, it must be from 0 to 1")
        if self.max_angle is not None and not 0 < self.max_angle <= 90:
            raise ConfigError(f"max_angle is {self.max_angle}, it must be from 0 to 90 degrees")
        if self.voxel and self.truncation and self.truncation < self.voxel:
            raise ConfigError(
                f"truncation {self.truncation} is less than one voxel of {self.voxel}: the surface "
                "would fall between the voxels"
            )
        if self.memory_bytes < LEAST_MEMORY:
            raise ConfigError(
                f"memory is {self.memory}, a fusion needs at least {LEAST_MEMORY // 10**6}MB"
            )

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number.

        Raises:
            ConfigError: it is not written like 800MB or 4GB.
        """
        match = re.fullmatch(r"([\d.]+)\s*([KMGT]?)B?", self.memory.strip().upper())
        try:
            return int(float(match[1]) * _UNITS[match[2]]) if match else int("")
        except ValueError:
            raise ConfigError(f"memory is {self.memory!r}, write it like 800MB or 4GB") from None
