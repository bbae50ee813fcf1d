"""Gaussians as 3-D Gaussian splatting optimises them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """N Gaussians, each field before its activation (Kerbl et al., SIGGRAPH 2023).

    The names are those of gsplat's parameters. World and unit of length are the scan's.
    """

    means: Tensor
    """World coordinates, shape (N, 3)."""
    scales: Tensor
    """Logarithm of the standard deviations along the axes, shape (N, 3)."""
    quats: Tensor
    """Rotation of the axes, quaternion wxyz of any length, shape (N, 4)."""
    opacities: Tensor
    """Logit of the opacity, shape (N,)."""
    sh0: Tensor
    """Constant colour as a spherical-harmonic coefficient, shape (N, 1, 3)."""
    shN: Tensor  # noqa: N815 - gsplat's name
    """The other coefficients, shape (N, (degree + 1)^2 - 1, 3)."""

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics."""
        return round((1 + self.shN.shape[1]) ** 0.5) - 1

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: str | torch.device) -> Gaussians:
        """The same on another device."""
        return Gaussians(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def joined(self, others: Gaussians) -> Gaussians:
        """These and then the others, which have the same degree."""
        ours, theirs = self.tensors(), others.tensors()
        return Gaussians(**{name: torch.cat([ours[name], theirs[name]]) for name in ours})


def make_gaussians(
    positions: Tensor, spacing: Tensor, opacity: Tensor, colours: Tensor, sh_degree: int
) -> Gaussians:
    """Round Gaussians of one colour each.

    Args:
        positions: World coordinates (N, 3).
        spacing: Distance to the neighbours (N,), the standard deviation in every direction.
        opacity: Between 0 and 1, exclusive, (N,).
        colours: RGB (N, 3) in [0, 1].
        sh_degree: Degree of the spherical harmonics; all but the constant are 0.
    """
    count, rest = len(positions), (sh_degree + 1) ** 2 - 1
    upright = positions.new_tensor([1.0, 0.0, 0.0, 0.0])
    return Gaussians(
        means=positions,
        scales=spacing.log()[:, None].expand(-1, 3).clone(),
        quats=upright.expand(count, -1).clone(),
        opacities=torch.logit(opacity),
        sh0=((colours - 0.5) / SH_C0)[:, None],
        shN=positions.new_zeros(count, rest, 3),
    )
