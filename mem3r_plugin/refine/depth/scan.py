"""The depth of a scan refined, on a grid that need not be the network's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.refine.depth.sequence import DepthConfig, RefinedDepth, refine_depth
from mem3r_plugin.scan import Scan


def depth_transform(scan: Scan, pixels: int) -> ImageTransform:
    """From original pixels to those of refined depth maps: what the network sees, at another size.

    Args:
        scan: The scan.
        pixels: About how many a map has; never more than the picture shows. Both sides are even.
    """
    (scale_x, _, _), (_, scale_y, _) = scan.transform.matrix
    width = scan.transform.target_size[0] / abs(scale_x)
    height = scan.transform.target_size[1] / abs(scale_y)
    factor = min(1.0, (pixels / (width * height)) ** 0.5)
    columns, rows = (2 * max(1, round(factor * side / 2)) for side in (width, height))
    return scan.transform.resized(columns, rows)


def refine_scan_depth(
    scan: Scan,
    camera: Intrinsics,
    camera_to_world: FloatArray,
    points: Sequence[FloatArray],
    keyframes: Sequence[int],
    folder: Path,
    config: DepthConfig | None = None,
    progress: ProgressCallback = no_progress,
    start: int = 0,
) -> Iterator[RefinedDepth]:
    """Refine the depth of all frames of a scan at refined poses.

    Args:
        scan: Gives pictures and the network's depth.
        camera: The refined camera in original pixels.
        camera_to_world: Refined poses (N, 4, 4).
        points: World points (n, 3) that each frame sees, n may be 0.
        keyframes: Frames to match with each other, in rising order.
        folder: Keeps the depth found by matching, from which an interrupted refinement goes on.
        config: Settings.
        progress: Is told how far it is.
        start: The first frame whose result is wanted.

    Yields:
        One result a frame from `start` on, in order, on the grid of `depth_transform`.

    Raises:
        ScanError: a picture or depth map of the scan, or a file in `folder`, cannot be read.
        OSError: `folder` cannot be written.
    """
    config = config or DepthConfig()
    transform = depth_transform(scan, config.pixels)
    return refine_depth(
        camera_to_world,
        transform.intrinsics(camera),
        lambda index: resample_picture(scan.image(index), transform),
        points,
        keyframes,
        folder,
        lambda index: enlarge_depth(scan.depth(index), transform.target_size),
        config,
        progress,
        start,
    )


def enlarge_depth(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A depth map (H, W) at another size (width, height), smooth where all of it is known; 0 = none."""
    known = (depth > 0).astype(np.float32)
    nearest = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    whole = cv2.resize(known, size, interpolation=cv2.INTER_LINEAR) > 1 - 1e-6
    smooth = cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR)
    return np.where(whole, smooth, nearest).astype(np.float32)


def resample_picture(picture: NDArray[np.uint8], transform: ImageTransform) -> NDArray[np.uint8]:
    """A picture on the grid of a transform without quarter turns, each pixel an average.

    Args:
        picture: Source picture (H, W, 3).
        transform: From its pixels to the wanted ones.

    Returns:
        The picture (h, w, 3); its border is repeated outside.
    """
    height, width = picture.shape[:2]
    (scale_x, _, _), (_, scale_y, _) = transform.matrix
    size = max(1, round(width * abs(scale_x))), max(1, round(height * abs(scale_y)))
    averaged = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    resized = ImageTransform.identity((width, height)).resized(*size)
    rest = resized.inverse.then(np.array(transform.matrix), transform.target_size)
    matrix = np.array(rest.matrix)
    matrix[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5  # OpenCV counts from pixel centres
    made = cv2.warpAffine(averaged, matrix, transform.target_size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(made, np.uint8)
