"""What pictures show of each other according to the predicted poses and depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.scan import Scan

_GRID = 8  # samples along each side of a picture


@dataclass(frozen=True, eq=False)
class PredictedView:
    """Where a picture was taken from and how far away what it shows is, by the network."""

    camera_to_world: FloatArray
    """Pose, shape (4, 4)."""
    depth: NDArray[np.float32]
    """z-depth on the picture's pixels, shape (h, w); 0 = none."""
    camera: Intrinsics
    """The camera of the picture at this size."""

    @classmethod
    def of(cls, scan: Scan, index: int, width: int, height: int) -> PredictedView:
        """What a scan says about its frame `index`, for a picture reduced to this size."""
        reduction = ImageTransform.identity(scan.transform.source_size).resized(width, height)
        return cls(
            scan.frames[index].camera_to_world,
            scan.transform.inverse.resized(width, height).sample(scan.depth(index)),
            reduction.intrinsics(scan.frame_camera(index)),
        )

    def grid(self) -> FloatArray:
        """Centres of pixels spread evenly over the picture, shape (64, 2)."""
        columns, rows = _spread(self.camera.width), _spread(self.camera.height)
        corners = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        return corners.astype(np.float64) + 0.5

    def unproject(self, pixels: FloatArray) -> FloatArray:
        """World points (N, 3) seen at pixels (N, 2); NaN where there is no depth."""
        column, row = np.floor(pixels).astype(np.int64).T
        depth = np.where(self.depth[row, column] > 0, self.depth[row, column], np.nan)
        return transform_points(self.camera_to_world, self.camera.unproject(pixels, depth))

    def project(self, points: FloatArray) -> FloatArray:
        """Pixels (N, 2) at which world points (N, 3) lie; NaN behind the camera or where they are NaN."""
        local = transform_points(invert_pose(self.camera_to_world), points)
        local[~(local[:, 2] > 0)] = np.nan
        return self.camera.project(local)


def predicted_overlap(scan: Scan, indices: list[int]) -> NDArray[np.float64]:
    """Share of each picture that the others see as well, by what the scan says, shape (n, n).

    Symmetric: the smaller of the two shares. Hidden surfaces are not told apart. It proposes pairs to
    match and decides nothing, so it may be as wrong as the network is.
    """
    camera = scan.network_camera
    grid = np.ix_(_spread(camera.height), _spread(camera.width))
    centres = camera.pixel_centres()[grid]
    seen = np.zeros((len(indices), len(indices)))
    world_to_camera = invert_pose(np.stack([scan.frames[i].camera_to_world for i in indices]))
    rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, None, :3, 3]
    for rank, index in enumerate(indices):
        depth = scan.depth(index)[grid]
        points = camera.unproject(centres, depth)[depth > 0]
        if not len(points):
            continue
        world = transform_points(scan.frames[index].camera_to_world, points)
        local = world @ rotation.swapaxes(1, 2) + translation  # in every camera, (n, points, 3)
        local[local[..., 2] <= 0] = np.nan
        seen[rank] = camera.contains(camera.project(local)).mean(axis=1)
    return np.minimum(seen, seen.T)


def _spread(length: int) -> NDArray[np.int64]:
    return np.linspace(0, length - 1, _GRID).round().astype(np.int64)
