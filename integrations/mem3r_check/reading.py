"""What one program sees in a project."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points


class Unreadable(Exception):  # noqa: N818 - a verdict on a project, told in the table
    """A program could not load the project; the message says why."""


class NotChecked(Exception):  # noqa: N818
    """A program is not there to be asked; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class View:
    """One picture with its camera, by our conventions whatever the program's are."""

    picture: Path
    """The file that the program opens."""
    camera: Intrinsics
    """In pixels of the picture."""
    camera_to_world: FloatArray
    """Shape (4, 4), OpenCV axes, in the world of the COLMAP model."""
    depth: Path | None = None
    """The file of its depth map."""

    def project(self, points: FloatArray) -> FloatArray:
        """Where points (N, 3) are in the picture, (N, 2); not a number where they lie behind it."""
        in_camera = transform_points(invert_pose(self.camera_to_world), points)
        in_camera[in_camera[:, 2] <= 0] = np.nan
        return self.camera.project(in_camera)

    def z_depth(self, points: FloatArray) -> FloatArray:
        """z-depth (N,) of points (N, 3)."""
        return (points - self.camera_to_world[:3, 3]) @ self.camera_to_world[:3, 2]


@dataclass(frozen=True, eq=False)
class Reading:
    """Everything one program takes from a project, views by the name of their picture."""

    reader: str
    """The program."""
    views: dict[str, View]
    """By file name of the picture, in the program's order."""
    points: FloatArray
    """Seed points in the world of the COLMAP model, shape (N, 3)."""
    colours: NDArray[np.uint8]
    """Their RGB, shape (N, 3)."""
    depth_unit: float = 1.0
    """What a stored depth is multiplied by."""
    notes: tuple[str, ...] = field(default=())
    """Limits of the program that the project runs into, without being wrong."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """M pixels at which pictures show points: the evidence a COLMAP model carries in its tracks."""

    names: tuple[str, ...]
    """Names of the pictures."""
    pictures: NDArray[np.int64]
    """Picture of each, an index of `names`, shape (M,)."""
    rows: NDArray[np.int64]
    """Point of each, shape (M,)."""
    pixels: FloatArray
    """Where it was seen, shape (M, 2)."""
    points: FloatArray
    """World coordinates of the points, shape (N, 3)."""

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, name: str) -> NDArray[np.intp]:
        """Which of them are in a picture."""
        return self._by_name.get(name, np.empty(0, np.intp))

    def only(self, chosen: NDArray[np.integer]) -> Sightings:
        """Those at the given places."""
        return replace(
            self,
            pictures=self.pictures[chosen],
            rows=self.rows[chosen],
            pixels=self.pixels[chosen],
        )

    def sample(self, count: int) -> Sightings:
        """At most so many of them, spread evenly."""
        chosen = np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64)
        return self.only(np.unique(chosen))

    @cached_property
    def _by_name(self) -> dict[str, NDArray[np.intp]]:
        order = np.argsort(self.pictures, kind="stable")
        limits = np.searchsorted(self.pictures[order], np.arange(1, len(self.names)))
        return dict(zip(self.names, np.split(order, limits), strict=True))


def residuals(views: dict[str, View], sightings: Sightings) -> FloatArray:
    """Seen minus projected pixel of every sighting, (M, 2); infinite behind a camera or without one."""
    result = np.full((len(sightings), 2), np.inf)
    for name, view in views.items():
        chosen = sightings.of(name)
        projected = view.project(sightings.points[sightings.rows[chosen]])
        result[chosen] = sightings.pixels[chosen] - projected
    result[~np.isfinite(result).all(axis=1)] = np.inf
    return result
