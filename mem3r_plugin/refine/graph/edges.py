"""Measured motions between frames, each with the uncertainty that its own evidence gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.refine.graph.pose_graph import cross_matrices, times, whitening
from mem3r_plugin.refine.keyframes.picture_names import frame_of

_MIN_MATCHES = 12  # with known depth
_PIXEL = 1.0  # standard deviation of a feature at most pictures, pixels
_ITERATIONS = 12
_SETTLED = 1e-6
_LEAST_SPREAD = 0.02  # no depth map is taken for better than that, relative
_UNKNOWN_SPREAD = 0.5
_PARALLAX = np.radians(1.0)
_INSIDE = 3.0  # whitened error of a match that agrees: chi(2) at 99 %
_CHI2_MEDIAN = 1.386  # of two degrees of freedom
_REGIONS = 20  # errors of a depth map are alike nearby: so many matches count at most


DepthReader = Callable[[int, FloatArray], FloatArray]
"""The network's z-depth (M,) of a frame at pixels (M, 2) of its picture; 0 = unknown."""


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion as an edge of the pose graph takes it."""

    similarity: Similarity
    """Second frame to first frame, in the first one's unit of depth."""
    whitening: FloatArray
    """Square root of the information, (7, 7)."""


@dataclass(frozen=True, eq=False)
class MatchedPair:
    """Verified matches of two frames, in pixels of the pictures."""

    first: int
    """Frame index."""
    second: int
    """Frame index."""
    first_pixels: FloatArray
    """Shape (M, 2)."""
    second_pixels: FloatArray
    """Shape (M, 2)."""


def read_matches(database: Path) -> Iterator[MatchedPair]:
    """All verified matches of a database whose pictures are named by their frames."""
    with pycolmap.Database.open(database) as opened:
        frames = {image.image_id: frame_of(image.name) for image in opened.read_all_images()}
        pixels = {image: opened.read_keypoints(image)[:, :2].astype(np.float64) for image in frames}
        for pair, geometry in zip(*opened.read_two_view_geometries(), strict=True):
            first, second = pycolmap.pair_id_to_image_pair(pair)
            matches = geometry.inlier_matches
            if frames[first] > frames[second]:
                first, second, matches = second, first, matches[:, ::-1]
            yield MatchedPair(
                frames[first],
                frames[second],
                pixels[first][matches[:, 0]],
                pixels[second][matches[:, 1]],
            )


def measure_motion(
    camera: Intrinsics, pair: MatchedPair, first_depth: FloatArray, second_depth: FloatArray
) -> Motion | None:
    """The motion between two frames from their matches and the network's depth.

    Depth tells where each match may lie along its ray, and how far it may be off by: where there is
    parallax the matches alone decide direction and rotation and depth only gives the length; where
    there is none, depth hardly matters. So one least-squares problem, reprojection into the second
    frame with the errors of depth marginalised, serves all motions.

    Args:
        camera: Of both frames, in pixels of the pictures.
        pair: Verified matches.
        first_depth: z-depth in the first frame at its pixels, (M,); 0 = unknown.
        second_depth: The same in the second frame.

    Returns:
        None where fewer than a dozen matches with depth, or less than half of them, agree.
    """
    known = (first_depth > 0) & (second_depth > 0)
    if known.sum() < _MIN_MATCHES:
        return None
    rays, other = (
        camera.unproject(pixels[known], np.ones(int(known.sum())))
        for pixels in (pair.first_pixels, pair.second_pixels)
    )
    depth, second_depth = first_depth[known], second_depth[known]
    start = _start(camera, pair, rays, other, depth)
    if start is None:
        return None
    problem = _Resection(camera, rays * depth[:, None], pair.second_pixels[known], start.spread)
    solved = problem.solve(start.rotation, start.translation)
    if solved is None:
        return None
    rotation, translation, covariance, inside = solved
    reached = ((rays * depth[:, None])[inside] - translation) @ rotation[:, 2]
    ratios = np.log(reached / second_depth[inside])
    scale = float(np.median(ratios))
    count = min(len(ratios), _REGIONS)
    length = max(start.spread, _LEAST_SPREAD) / np.sqrt(count)
    covariance[3:, 3:] += length**2 * np.outer(translation, translation)
    covariance[3:, 3:] += (1e-3 * np.median(depth)) ** 2 * np.eye(3)
    covariance[:3, :3] += 1e-3**2 * np.eye(3)
    spread = max(_spread(ratios - scale), _LEAST_SPREAD) / np.sqrt(count)
    motion = Similarity(float(np.exp(scale)), rotation, translation)
    return Motion(motion, whitening(covariance, spread))


def measure_pair(camera: Intrinsics, pair: MatchedPair, read_depth: DepthReader) -> Motion | None:
    """`measure_motion` with the depth of both frames at their matches."""
    return measure_motion(
        camera,
        pair,
        read_depth(pair.first, pair.first_pixels),
        read_depth(pair.second, pair.second_pixels),
    )


@dataclass(frozen=True, eq=False)
class _Start:
    rotation: FloatArray  # second camera to first
    translation: FloatArray
    spread: float  # of the depth's relative error


def _start(
    camera: Intrinsics, pair: MatchedPair, rays: FloatArray, other: FloatArray, depth: FloatArray
) -> _Start | None:
    """Rotation and direction from the epipolar geometry; the length that suits the depth best."""
    options = pycolmap.RANSACOptions()
    options.random_seed = 0
    options.min_num_trials, options.max_num_trials = 30, 100
    options.max_error = 4.0
    pinhole = pinhole_camera(camera)
    answer = pycolmap.estimate_relative_pose(
        pinhole, pair.first_pixels, pinhole, pair.second_pixels, options
    )
    if answer is None:
        return None
    first_from_second = answer["cam2_from_cam1"].inverse()
    rotation, direction = first_from_second.rotation.matrix(), first_from_second.translation
    distance, parallax = _triangulated(rays, other @ rotation.T, direction)
    seen = (distance > 0) & (parallax > _PARALLAX)
    if seen.sum() < _MIN_MATCHES:
        return _Start(rotation, np.zeros(3), _UNKNOWN_SPREAD)
    ratios = np.log(depth[seen] / distance[seen])
    length = float(np.median(ratios))
    spread = min(max(_spread(ratios - length), _LEAST_SPREAD), _UNKNOWN_SPREAD)
    return _Start(rotation, direction * np.exp(length), spread)


def _triangulated(
    rays: FloatArray, other: FloatArray, baseline: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """z-depths (M,) along the first rays where the second ones come nearest, and angles between."""
    a, b, c = ((u * v).sum(axis=1) for u, v in ((rays, rays), (rays, other), (other, other)))
    p, q = rays @ baseline, other @ baseline
    sine = np.maximum(a * c - b * b, 1e-12)
    return (c * p - b * q) / sine, np.sqrt(sine / (a * c))


class _Resection:
    """The second camera from points of the first whose depth is uncertain."""

    def __init__(
        self, camera: Intrinsics, points: FloatArray, pixels: FloatArray, spread: float
    ) -> None:
        self.camera = camera
        self.points = points
        self.pixels = pixels
        self.spread = spread

    def solve(
        self, rotation: FloatArray, translation: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]] | None:
        """Rotation, translation, their covariance (6, 6), and which matches agree (M,)."""
        for _ in range(_ITERATIONS):
            information, gradient, errors = self._normal(rotation, translation)
            if np.isfinite(errors).sum() < _MIN_MATCHES:  # nearly everything lies behind
                return None
            step = -np.linalg.solve(information, gradient)
            rotation = rotation @ Rotation.from_rotvec(step[:3]).as_matrix()
            translation = translation + step[3:]
            if np.abs(step).max() < _SETTLED:
                break
        information, _, errors = self._normal(rotation, translation)
        inside = errors < _INSIDE
        if inside.sum() < max(_MIN_MATCHES, 0.5 * len(errors)):
            return None
        noise = max(1.0, float(np.median(errors[inside] ** 2)) / _CHI2_MEDIAN)
        covariance = np.asarray(noise * np.linalg.inv(information), np.float64)
        return rotation, translation, covariance, inside

    def _normal(
        self, rotation: FloatArray, translation: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Information (6, 6) and gradient (6,) of a robust Gauss-Newton step; whitened errors (M,)."""
        local = (self.points - translation) @ rotation
        front = local[:, 2] > 1e-6 * np.abs(local).max()
        z = np.where(front, local[:, 2], 1.0)
        by_point = np.zeros((len(z), 2, 3))
        by_point[:, 0, 0], by_point[:, 0, 2] = (
            self.camera.fx / z,
            -self.camera.fx * local[:, 0] / z**2,
        )
        by_point[:, 1, 1], by_point[:, 1, 2] = (
            self.camera.fy / z,
            -self.camera.fy * local[:, 1] / z**2,
        )
        projected = self.camera.project(np.column_stack([local[:, :2], z]))
        residual = projected - self.pixels
        # A relative error of depth moves the projection along the epipolar line.
        along = self.spread * times(by_point, self.points @ rotation)
        weight = (
            np.eye(2)
            - along[:, :, None]
            * along[:, None, :]
            / (_PIXEL**2 + (along**2).sum(axis=1))[:, None, None]
        )
        weight = weight / _PIXEL**2
        errors = np.sqrt((residual * times(weight, residual)).sum(axis=1))
        errors = np.where(front, errors, np.inf)
        robust = np.where(front, 1 / (1 + (errors / _INSIDE) ** 2), 0.0)
        jacobian = np.concatenate(
            [by_point @ cross_matrices(local), -by_point @ rotation.T], axis=2
        )
        weighted = robust[:, None, None] * (np.swapaxes(jacobian, 1, 2) @ weight)
        information = (weighted @ jacobian).sum(axis=0)
        information += 1e-9 * np.trace(information) * np.eye(6)
        return information, times(weighted, residual).sum(axis=0), errors


def _spread(errors: FloatArray) -> float:
    """Standard deviation, from the median absolute error."""
    return 1.4826 * float(np.median(np.abs(errors)))


def pinhole_camera(camera: Intrinsics) -> pycolmap.Camera:
    """The camera as pycolmap takes it."""
    return pycolmap.Camera(
        model="PINHOLE",
        width=camera.width,
        height=camera.height,
        params=[camera.fx, camera.fy, camera.cx, camera.cy],
    )
