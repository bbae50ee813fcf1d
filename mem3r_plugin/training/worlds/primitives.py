"""Shapes that rays meet in closed form.

Every primitive is a unit shape under an affine map: with `local = to_local @ (point - centre)`,

* QUAD      local z = 0, |x| <= 1, |y| <= 1
* TRIANGLE  local z = 0, the isosceles triangle (-1, -1), (1, -1), (0, 1)
* DISC      local z = 0, x² + y² <= 1
* CYLINDER  x² + y² = 1, |z| <= 1 (the side; discs close it)
* SPHERE    x² + y² + z² = 1

Flat shapes are seen only from local z > 0, curved ones only from outside.

A camera ray through pixel (x, y) is `origin + z * direction`, `direction` having z-depth 1. In local
coordinates its origin is the same for a whole picture and its direction is linear in the pixel, so the
quantities an intersection test needs are *linear forms* `a x + b y + c`, folded once for each picture and
primitive (`linear_forms`). The tests work on the inverse depth, which is itself linear on a plane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum

import torch
from torch import Tensor


class Shape(IntEnum):
    """The unit shapes."""

    QUAD = 0
    TRIANGLE = 1
    DISC = 2
    CYLINDER = 3
    SPHERE = 4


FLAT = (Shape.QUAD, Shape.TRIANGLE, Shape.DISC)
_EPSILON = 1e-6


@dataclass(frozen=True)
class Primitives:
    """P shapes with their surfaces."""

    shape: Tensor
    """A `Shape`, int64, (P)."""
    centre: Tensor
    """World position in metres, float64, (P, 3)."""
    to_local: Tensor
    """World to local axes, float64, (P, 3, 3): unit axes as rows, divided by the half sizes."""
    half: Tensor
    """Half sizes along the local axes in metres, float64, (P, 3); z is 0 for flat shapes."""
    surface: Tensor
    """What shading needs, float32, (P, S): rows made by `surfaces.pack`."""

    def __len__(self) -> int:
        return len(self.shape)

    def corners(self) -> Tensor:
        """Corners (P, 8, 3) of the oriented bounding boxes in the world."""
        signs = torch.cartesian_prod(*[self.half.new_tensor([-1.0, 1.0])] * 3)
        return self.centre.unsqueeze(-2) + (signs * self.half.unsqueeze(-2)) @ self._axes

    def distance(self, points: Tensor) -> Tensor:
        """Distance (N, P) in metres from points (N, 3) to the bounding boxes, 0 inside them."""
        local = torch.einsum("pij,npj->npi", self._axes, points[:, None] - self.centre)
        return (local.abs() - self.half).clamp(min=0).norm(dim=-1)

    @property
    def _axes(self) -> Tensor:
        """Unit axes as rows, (P, 3, 3)."""
        return self.to_local * torch.where(self.half > 0, self.half, 1.0).unsqueeze(-1)


def concatenate(primitives: list[Primitives]) -> Primitives:
    """The primitives of several worlds in one list."""
    return Primitives(
        *(
            torch.cat([getattr(each, field.name) for each in primitives])
            for field in fields(Primitives)
        )
    )


def linear_forms(shape: Shape, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Folds cameras and primitives into the forms that `inverse_depth` takes.

    Args:
        shape: the unit shape of all of them.
        origin: camera positions in local coordinates, (N, 3).
        directions: maps from homogeneous pixels to local ray directions, (N, 3, 3).

    Returns:
        the forms, (N, forms, 3), coefficients of x, y and 1; and per-primitive constants, (N, 2).
    """
    x, y, z = directions.unbind(-2)
    ox, oy, oz = (value.unsqueeze(-1) for value in origin.unbind(-1))
    zero = torch.zeros_like(ox)
    if shape in FLAT:
        inverse = -z / oz
        forms = torch.stack([x + ox * inverse, y + oy * inverse, inverse], -2)
        return forms, torch.cat([zero, zero], -1)
    if shape == Shape.CYLINDER:
        towards = -(ox * x + oy * y)
        forms = torch.stack([x, y, ox * y - oy * x, towards, z], -2)
        return forms, torch.cat([ox**2 + oy**2 - 1, oz], -1)
    towards = -(ox * x + oy * y + oz * z)
    cross = [oy * z - oz * y, oz * x - ox * z, ox * y - oy * x]
    forms = torch.stack([x, y, z, *cross, towards], -2)
    return forms, torch.cat([ox**2 + oy**2 + oz**2 - 1, zero], -1)


def faces_camera(shape: Tensor, origin: Tensor) -> Tensor:
    """Whether the camera at local `origin` (..., 3) is on the visible side of `shape` (...)."""
    across = origin[..., :2].square().sum(-1)
    flat = (shape <= Shape.DISC) & (origin[..., 2] > _EPSILON)
    cylinder = (shape == Shape.CYLINDER) & (across > 1)
    sphere = (shape == Shape.SPHERE) & (across + origin[..., 2].square() > 1)
    return flat | cylinder | sphere


def _quad(forms: Tensor, constants: Tensor) -> Tensor:
    u, v, inverse = forms.unbind(1)
    return inverse.masked_fill_(torch.maximum(u.abs(), v.abs()) > inverse, 0.0)


def _triangle(forms: Tensor, constants: Tensor) -> Tensor:
    u, v, inverse = forms.unbind(1)
    return inverse.masked_fill_(torch.maximum(2 * u.abs() + v, -v) > inverse, 0.0)


def _disc(forms: Tensor, constants: Tensor) -> Tensor:
    u, v, inverse = forms.unbind(1)
    return inverse.masked_fill_(u.square() + v.square() > inverse * inverse.abs(), 0.0)


def _cylinder(forms: Tensor, constants: Tensor) -> Tensor:
    x, y, across, towards, z = forms.unbind(1)
    # |o·d|² - |d|² (|o|² - 1) = |d|² - |o × d|², without the cancellation of far-away shapes
    discriminant = x.square() + y.square() - across.square()
    inverse = (towards + discriminant.clamp(min=0).sqrt()) / constants[:, 0]
    height = z + constants[:, 1] * inverse
    return inverse.masked_fill_((discriminant < 0) | (towards <= 0) | (height.abs() > inverse), 0.0)


def _sphere(forms: Tensor, constants: Tensor) -> Tensor:
    squares = forms[:, :6].square()
    discriminant = squares[:, :3].sum(1) - squares[:, 3:].sum(1)
    towards = forms[:, 6]
    inverse = (towards + discriminant.clamp(min=0).sqrt()) / constants[:, 0]
    return inverse.masked_fill_((discriminant < 0) | (towards <= 0), 0.0)


_TESTS: dict[Shape, Callable[[Tensor, Tensor], Tensor]] = {
    Shape.QUAD: _quad,
    Shape.TRIANGLE: _triangle,
    Shape.DISC: _disc,
    Shape.CYLINDER: _cylinder,
    Shape.SPHERE: _sphere,
}


def inverse_depth(shape: Shape, forms: Tensor, constants: Tensor) -> Tensor:
    """Inverse z-depth (N, ...) where rays meet the primitives; 0 or less where they miss.

    Args:
        shape: the unit shape of all of them.
        forms: the linear forms evaluated at pixels, (N, forms, ...); may be overwritten.
        constants: the second result of `linear_forms`, with trailing dimensions of 1, (N, 2, ...).
    """
    return _TESTS[shape](forms, constants)
