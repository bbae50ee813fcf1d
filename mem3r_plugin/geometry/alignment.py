"""Least-squares alignment of two point sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import pose_matrix


@dataclass(frozen=True)
class Similarity:
    """The map ``target = scale * rotation @ source + translation``."""

    scale: float
    """Length of a source unit in target units."""
    rotation: FloatArray
    """Shape (3, 3)."""
    translation: FloatArray
    """Shape (3,), in target units."""

    def points(self, points: FloatArray) -> FloatArray:
        """Points (..., 3) brought to the target's frame and scale."""
        return self.scale * points @ self.rotation.T + self.translation

    def poses(self, camera_to_world: FloatArray) -> FloatArray:
        """Camera-to-world poses (..., 4, 4) brought along; they stay rigid, only centres scale."""
        return pose_matrix(
            self.rotation @ camera_to_world[..., :3, :3],
            self.points(camera_to_world[..., :3, 3]),
        )


def umeyama(source: FloatArray, target: FloatArray, with_scale: bool = True) -> Similarity:
    """The similarity (or rigid motion) that brings `source` nearest to `target`, both (n, 3).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991. Where the points do not fix the answer (all in one place, or on a line), one of the
    equally good answers is given; the scale is then 1 if the source has no extent.

    Raises:
        ValueError: the two do not have the same shape (n, 3) with n > 0.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or not len(source):
        raise ValueError(f"cannot align points of shape {source.shape} with {target.shape}")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    covariance = (target - target_mean).T @ centred / len(source)
    left, singular, right = np.linalg.svd(covariance)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    variance = (centred**2).sum(axis=1).mean()
    scale = float(singular @ signs / variance) if with_scale and variance > 0 else 1.0
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)
