"""The frames of a scan as Open3D takes them: images, intrinsics, extrinsics.

Where a pixel's centre lies is not the same everywhere in Open3D 0.19 (measured by this package's tests):

* the legacy API, and making points from depth in the tensor API, have it at INTEGERS;
* `VoxelBlockGrid.integrate` and `RaycastingScene.create_rays_pinhole` have it at half-integers, as this
  package has: with the other one a slanted surface comes out displaced by half a pixel.

So every frame has both: `intrinsic` and `grid_intrinsic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d
from numpy.typing import NDArray
from PIL import Image

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import encode_depth
from mem3r_plugin.stream.estimate import FrameEstimate


@dataclass(frozen=True)
class RGBDFrame:
    """One frame; picture and depth have the same size and the same camera."""

    color: o3d.t.geometry.Image
    """RGB, uint8, (h, w, 3)."""
    depth: o3d.t.geometry.Image
    """z-depth, uint16, (h, w, 1); 0 = none."""
    depth_scale: float
    """Steps of `depth` to a unit of length: what Open3D calls `depth_scale`."""
    camera: Intrinsics
    """The camera of both, pixel centres at half-integers."""
    camera_to_world: FloatArray
    """Pose, (4, 4)."""

    @property
    def intrinsic(self) -> o3d.camera.PinholeCameraIntrinsic:
        """The camera with pixel centres at integers: for the legacy API and `PointCloud`."""
        camera = self.camera
        return o3d.camera.PinholeCameraIntrinsic(
            camera.width, camera.height, camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5
        )

    @property
    def grid_intrinsic(self) -> o3d.core.Tensor:
        """The camera with pixel centres at half-integers, float64 (3, 3): for `VoxelBlockGrid.integrate`."""
        return o3d.core.Tensor(self.camera.matrix)

    @property
    def extrinsic(self) -> FloatArray:
        """World to camera, (4, 4), as both APIs of Open3D want it; wrap it in a `Tensor` for the new one."""
        return invert_pose(self.camera_to_world)

    def rgbd(self, depth_max: float = np.inf) -> o3d.geometry.RGBDImage:
        """Picture and depth for the legacy API, depth in units of length.

        Args:
            depth_max: Depth beyond becomes none.
        """
        return o3d.geometry.RGBDImage.create_from_color_and_depth(
            self.color.to_legacy(),
            self.depth.to_legacy(),
            depth_scale=self.depth_scale,
            depth_trunc=depth_max,
            convert_rgb_to_intensity=False,
        )


class ScanDataset:
    """The frames of a scan, read when asked for: `for frame in ScanDataset(Scan.open("walk"))`.

    Args:
        scan: The scan.
        min_confidence: Depth of less confidence is left out; confidence is 1 or more.
    """

    def __init__(self, scan: Scan, min_confidence: float = 1.0) -> None:
        self.scan = scan
        self._min_confidence = min_confidence

    def __len__(self) -> int:
        return len(self.scan)

    def __iter__(self) -> Iterator[RGBDFrame]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> RGBDFrame:
        """Frame `index`.

        Raises:
            IndexError: there is no such frame.
            ScanError: a file of it is missing or damaged.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.scan} has no frame {index}")
        index %= len(self)
        depth = self.scan.depth(index)
        depth[self.scan.confidence(index) < self._min_confidence] = 0
        return _frame(
            self.scan.image(index),
            depth,
            self.scan.depth_unit,
            self.scan.transform,
            self.scan.frame_network_camera(index),
            self.scan.frames[index].camera_to_world,
        )


def frame_from_estimate(estimate: FrameEstimate, depth_unit: float = 0.001) -> RGBDFrame:
    """What the front end says about a frame, for those who have a loop of their own.

    Args:
        estimate: What `FrontEnd.stream` yields.
        depth_unit: The step of the 16-bit depth, in the network's unit of length.
    """
    return _frame(
        estimate.frame.image,
        estimate.depth,
        depth_unit,
        estimate.transform,
        estimate.intrinsics,
        estimate.camera_to_world,
    )


def _frame(
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    unit: float,
    transform: ImageTransform,
    camera: Intrinsics,
    camera_to_world: FloatArray,
) -> RGBDFrame:
    code, _ = encode_depth(depth, unit)
    return RGBDFrame(
        color=o3d.t.geometry.Image(o3d.core.Tensor(color_on_depth_grid(image, transform))),
        depth=o3d.t.geometry.Image(o3d.core.Tensor(code[..., None])),
        depth_scale=1 / unit,
        camera=camera,
        camera_to_world=camera_to_world,
    )


def color_on_depth_grid(image: NDArray[np.uint8], transform: ImageTransform) -> NDArray[np.uint8]:
    """An original picture (H, W, 3) resampled smoothly onto the grid of its depth map, (h, w, 3).

    Args:
        image: RGB.
        transform: From original pixels to those of the depth map: scaled and cropped, not turned.
    """
    width, height = transform.target_size
    corners = transform.inverse.pixels(np.array([[0.0, 0.0], [width, height]]))
    left, top, right, bottom = corners.ravel().round(9).tolist()
    if (left, top, right, bottom) == (0, 0, width, height):
        return np.ascontiguousarray(image)
    resized = Image.fromarray(image).resize(
        (width, height), Image.Resampling.BICUBIC, box=(left, top, right, bottom)
    )
    return np.asarray(resized).copy()
