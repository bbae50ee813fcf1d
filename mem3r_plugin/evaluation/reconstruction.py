"""Errors of a reconstructed surface against the true one, both as points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError, ScanError
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.scan import Scan

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_MAX_POINTS = 200_000
"""Points of a cloud, about; pixels are thinned evenly to it."""
_QUERIES = 30_000
"""Points whose distance to the other cloud is measured."""
_NORMAL_NEIGHBOURS = 16
_ICP_STEPS = 30
_ICP_POINTS = 10_000
_ICP_SHARE = 0.9
"""Nearest pairs kept in every step of ICP; the rest has no counterpart or a wrong one."""


@dataclass(frozen=True)
class ReconstructionErrors:
    """Distances between two surfaces, in the truth's unit."""

    accuracy: float
    """Mean distance of a reconstructed point to the nearest true one."""
    accuracy_median: float
    """Median of the same."""
    completeness: float
    """Mean distance of a true point to the nearest reconstructed one."""
    completeness_median: float
    """Median of the same."""
    chamfer: float
    """Mean of accuracy and completeness."""
    normal_consistency: float
    """Mean absolute cosine between the normals of nearest points, over both directions; 1 is best."""
    points: int
    """Number of reconstructed points."""
    true_points: int
    """Number of true points."""


def scan_reconstruction_errors(
    scan: Scan, sequence: PosedSequence, frames: NDArray[np.int64], matches: NDArray[np.int64]
) -> ReconstructionErrors:
    """Errors of the points that all depth maps of a scan make together.

    Args:
        scan: The scan.
        sequence: The truth, with depth.
        frames: Which frames of the scan, shape (N,).
        matches: Their indices in `sequence`, shape (N,).

    Raises:
        ConfigError: SciPy is not installed.
        ScanError: no pixel has both depths, or pictures differ in size from the truth's.
    """
    camera = sequence.intrinsics
    if (camera.width, camera.height) != scan.transform.source_size:
        raise ScanError(
            f"{scan.path} was not made from {sequence.directory}: its pictures have another size"
        )
    stride = math.ceil(math.sqrt(len(frames) * camera.width * camera.height / _MAX_POINTS))
    grid = np.s_[::stride, ::stride]
    pixels = camera.pixel_centres()[grid]
    points, true_points = [], []
    for frame, match in zip(frames.tolist(), matches.tolist(), strict=True):
        depth, true_depth = scan.original_depth(frame)[grid], sequence.depth(match)[grid]
        local = scan.frame_camera(frame).unproject(pixels, np.where(depth > 0, depth, np.nan))
        true_local = camera.unproject(pixels, np.where(true_depth > 0, true_depth, np.nan))
        pose = scan.frames[frame].camera_to_world
        points.append(transform_points(pose, local).reshape(-1, 3))
        true_pose = sequence.camera_to_world[match]
        true_points.append(transform_points(true_pose, true_local).reshape(-1, 3))
    errors = paired_reconstruction_errors(np.concatenate(points), np.concatenate(true_points))
    if errors is None:
        raise ScanError(f"hardly a pixel has depth both in {scan.path} and in {sequence.directory}")
    return errors


def paired_reconstruction_errors(
    points: FloatArray, true_points: FloatArray
) -> ReconstructionErrors | None:
    """Compare points (N, 3) with the true ones of the same pixels; NaN where a pixel has none.

    The cloud is aligned to the truth by the similarity that fits points of the same pixels best, then
    refined by ICP (rigid, trimmed). None where hardly a pixel has both.

    Raises:
        ConfigError: SciPy is not installed.
    """
    known, true_known = np.isfinite(points[:, 0]), np.isfinite(true_points[:, 0])
    both = known & true_known
    if both.sum() < _NORMAL_NEIGHBOURS:
        return None
    cloud = umeyama(points[both], true_points[both]).points(points[known])
    truth = true_points[true_known]
    return reconstruction_errors(align_by_icp(cloud, truth), truth)


def reconstruction_errors(points: FloatArray, true_points: FloatArray) -> ReconstructionErrors:
    """Compare points (N, 3) with true ones (M, 3) of the same world; at least 16 each.

    Normals are those of the plane through the nearest points of the same cloud.

    Raises:
        ConfigError: SciPy is not installed.
    """
    tree, true_tree = _tree(points), _tree(true_points)
    accuracy, facing = _distances(points, tree, true_tree)
    completeness, true_facing = _distances(true_points, true_tree, tree)
    return ReconstructionErrors(
        accuracy=float(accuracy.mean()),
        accuracy_median=float(np.median(accuracy)),
        completeness=float(completeness.mean()),
        completeness_median=float(np.median(completeness)),
        chamfer=float((accuracy.mean() + completeness.mean()) / 2),
        normal_consistency=float((facing.mean() + true_facing.mean()) / 2),
        points=len(points),
        true_points=len(true_points),
    )


def align_by_icp(points: FloatArray, target: FloatArray) -> FloatArray:
    """Points (N, 3) moved rigidly onto a target (M, 3) near which they already lie.

    Trimmed ICP (Chetverikov et al., 2005): in every step the farthest pairs are left out.

    Raises:
        ConfigError: SciPy is not installed.
    """
    tree = _tree(target)
    sample = _sample(points, _ICP_POINTS)
    start = sample.copy()
    for _ in range(_ICP_STEPS):
        distance, nearest = tree.query(sample)
        near = distance <= np.quantile(distance, _ICP_SHARE)
        moved = umeyama(sample[near], target[nearest[near]], with_scale=False).points(sample)
        settled = np.abs(moved - sample).max() < 1e-4 * distance.mean()
        sample = moved
        if settled:
            break
    return umeyama(start, sample, with_scale=False).points(points)


def _distances(
    points: FloatArray, own: cKDTree, other: cKDTree
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance to the other cloud and |cosine| between the normals there, for some of the points."""
    queries = _sample(points, _QUERIES)
    distance, nearest = other.query(queries)
    cosine = np.sum(_normals(queries, own) * _normals(other.data[nearest], other), axis=1)
    return distance, np.abs(cosine)


def _normals(points: FloatArray, tree: cKDTree) -> FloatArray:
    """Unit normals (N, 3), of either sign, of a cloud at some of its points (N, 3)."""
    _, neighbours = tree.query(points, k=_NORMAL_NEIGHBOURS)
    patches = tree.data[neighbours]
    patches = patches - patches.mean(axis=1, keepdims=True)
    return np.linalg.eigh(np.swapaxes(patches, 1, 2) @ patches).eigenvectors[:, :, 0]


def _sample(points: FloatArray, count: int) -> FloatArray:
    """At most `count` of the points, at random but always the same."""
    if len(points) <= count:
        return points
    return points[np.random.default_rng(0).choice(len(points), count, replace=False)]


def _tree(points: FloatArray) -> cKDTree:
    try:
        from scipy.spatial import cKDTree
    except ModuleNotFoundError as error:
        raise ConfigError(
            "evaluation needs the package scipy: pip install 'mem3r-plugin[evaluate]'"
        ) from error
    return cKDTree(points)
