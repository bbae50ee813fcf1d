"""The confident points of a scan, thinned on a voxel grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan

_POINT = np.dtype(
    [("position", "f8", 3), ("confidence", "f4"), ("frame", "i4"), ("pixel", "f8", 2)]
)
_COARSER = 2 ** (1 / 3)
"""Each step that coarsens the voxel grid doubles the volume of a voxel."""


@dataclass(frozen=True)
class PointCloudConfig:
    """Which pixels of a scan become points of its cloud."""

    keyframes: int = 100
    """Points are made from at most this many frames, spread evenly over the scan."""
    pixel_stride: int = 2
    """Only every n-th row and column of a depth map makes points."""
    discard: float = 0.3
    """Share of the pixels, the least confident ones, that are left out; more where many are alike."""
    voxel_size: float = 0.005
    """Edge of a voxel, relative to the scan's median depth; each voxel keeps one point."""
    max_points: int = 200_000
    """Voxels grow until no more points than this are left."""


@dataclass(frozen=True)
class PointCloud:
    """N points in a random but reproducible order, so that any first part is a fair sample."""

    positions: NDArray[np.float64]
    """World coordinates, shape (N, 3)."""
    frames: NDArray[np.int32]
    """The frame that each point was made from, shape (N,)."""
    pixels: NDArray[np.float64]
    """Where the point lies in that frame, in original pixels, shape (N, 2)."""
    confidence: NDArray[np.float32]
    """Confidence of the depth it was made from, at least 1, shape (N,)."""
    min_confidence: float
    """The least confidence a pixel needed."""
    voxel_size: float
    """Edge of the voxels in the end, in the scan's unit of length."""

    def __len__(self) -> int:
        return len(self.positions)


def confident_points(
    scan: Scan, config: PointCloudConfig | None = None, progress: ProgressCallback = no_progress
) -> PointCloud:
    """The cloud of a scan; empty where no frame has depth.

    Depth maps are read one at a time, so memory depends on `config.max_points`, not on the scan.
    """
    config = config or PointCloudConfig()
    keyframes = _spread(len(scan), config.keyframes)
    median_depth, min_confidence = _statistics(scan, keyframes, config)
    voxel_size = config.voxel_size * median_depth
    points = np.empty(0, _POINT)
    for done, index in enumerate(keyframes, start=1):
        fresh = _frame_points(scan, index, config.pixel_stride, min_confidence)
        points = _thin(np.concatenate([points, fresh]), voxel_size)
        while len(points) > config.max_points:
            voxel_size *= _COARSER
            points = _thin(points, voxel_size)
        progress("making points from depth", done, len(keyframes))
    points = np.random.default_rng(0).permutation(points)
    return PointCloud(
        points["position"],
        points["frame"],
        points["pixel"],
        points["confidence"],
        min_confidence,
        voxel_size,
    )


def colour_points(scan: Scan, cloud: PointCloud) -> NDArray[np.uint8]:
    """RGB (N, 3) of every point, from the original pictures, each of them read once and in order."""
    colours = np.zeros((len(cloud), 3), np.uint8)
    for index in np.unique(cloud.frames).tolist():
        rows = cloud.frames == index
        colours[rows] = sample_colours(scan.image(index), cloud.pixels[rows])
    return colours


def sample_colours(image: NDArray[np.uint8], pixels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours (N, 3) of an image (H, W, 3) at the pixels that hold the coordinates (N, 2).

    Straightened pictures end a little before what was seen at their borders; that has the border's colour.
    """
    last = np.array(image.shape[1::-1]) - 1
    columns, rows = np.clip(np.floor(pixels).astype(np.int64), 0, last).T
    return image[rows, columns]


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` indices below `count`, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int)).tolist()


def _statistics(scan: Scan, keyframes: list[int], config: PointCloudConfig) -> tuple[float, float]:
    """Median depth, and the confidence below which the share `config.discard` of the pixels lies."""
    grid = np.s_[:: config.pixel_stride, :: config.pixel_stride]
    depths, confidences = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    for index in keyframes:
        depth = scan.depth(index)[grid]
        depths.append(depth[depth > 0])
        confidences.append(scan.confidence(index)[grid][depth > 0])
    depth, confidence = np.concatenate(depths), np.concatenate(confidences)
    if depth.size == 0:
        return 1.0, 1.0
    return float(np.median(depth)), least_confidence(confidence, config.discard)


def least_confidence(confidence: NDArray[np.float32], discard: float) -> float:
    """The least of N > 0 confidences below which at least the share `discard` of them lies.

    Where the least confident ones are all alike, as those of depth that no other view confirms, all of
    them go, more than their share; where no confidence differs from the others, none does.
    """
    values, counts = np.unique(confidence, return_counts=True)
    below = np.cumsum(counts) - counts
    enough = below >= discard * len(confidence)
    return float(values[np.argmax(enough)])  # the first value where none is enough


def _frame_points(scan: Scan, index: int, stride: int, min_confidence: float) -> NDArray[np.void]:
    """The confident points of one frame, an array of `_POINT`."""
    grid = np.s_[::stride, ::stride]
    depth, confidence = scan.depth(index)[grid], scan.confidence(index)[grid]
    camera, network_camera = scan.frame_camera(index), scan.frame_network_camera(index)
    network_pixels = network_camera.pixel_centres()[grid]
    pixels = scan.transform.inverse.pixels(network_pixels)
    good = (
        (depth > 0)
        & (confidence >= min_confidence)
        & camera.contains(pixels)  # padding lies outside the original picture
    )
    in_camera = network_camera.unproject(network_pixels[good], depth[good])
    points = np.empty(len(in_camera), _POINT)
    points["position"] = transform_points(scan.frames[index].camera_to_world, in_camera)
    points["confidence"] = confidence[good]
    points["frame"] = index
    points["pixel"] = pixels[good]
    return points


def _thin(points: NDArray[np.void], voxel_size: float) -> NDArray[np.void]:
    """The most confident point of every voxel; of equals the one that came first."""
    voxels = np.floor(points["position"] / voxel_size)
    order = np.lexsort((-points["confidence"], *voxels.T))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(voxels[order], axis=0) != 0).any(axis=1)
    return points[order[is_first]]
