"""Rigid poses as 4x4 `camera_to_world` matrices, and quaternions (w, x, y, z)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mem3r_plugin.geometry.camera import FloatArray


def pose_matrix(rotation: ArrayLike, translation: ArrayLike) -> FloatArray:
    """Poses (..., 4, 4) from rotations (..., 3, 3) and translations (..., 3)."""
    rotation, translation = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
    pose = np.zeros((*translation.shape[:-1], 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1.0
    return pose


def invert_pose(pose: FloatArray) -> FloatArray:
    """World-to-camera from camera-to-world, or the other way round; shape (..., 4, 4)."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    return pose_matrix(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def relative_pose(first: FloatArray, second: FloatArray) -> FloatArray:
    """The second camera's pose as seen from the first, both camera-to-world (..., 4, 4)."""
    return invert_pose(first) @ second


def transform_points(pose: FloatArray, points: FloatArray) -> FloatArray:
    """Points (..., 3) taken through one pose (4, 4)."""
    return points @ pose[:3, :3].T + pose[:3, 3]


def rotation_from_quaternion(quaternion: ArrayLike) -> FloatArray:
    """Rotations (..., 3, 3), orthonormal to float64 precision, from quaternions (..., 4) wxyz.

    The quaternion need not have unit length, but must not be zero.
    """
    quaternion = np.asarray(quaternion, np.float64)
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_rotation(rotation: FloatArray) -> FloatArray:
    """Unit quaternions (..., 4) wxyz with w >= 0 from rotations (..., 3, 3).

    Takes the eigenvector of the largest eigenvalue (Bar-Itzhack, "New method for extracting the
    quaternion from a rotation matrix", 2000), which is well-conditioned at every angle and
    gives the nearest rotation's quaternion where the matrix is slightly off.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(rotation, (-2, -1), (0, 1))
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, yx + xy, xz + zx],
        [xz - zx, yx + xy, yy - xx - zz, zy + yz],
        [yx - xy, xz + zx, zy + yz, zz - xx - yy],
    ]
    symmetric = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    quaternion = np.linalg.eigh(symmetric).eigenvectors[..., -1]
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def rotation_angle(rotation: FloatArray) -> FloatArray:
    """Angles in radians, in [0, pi], of rotations (..., 3, 3); accurate for small angles too."""
    skew = rotation - np.swapaxes(rotation, -1, -2)
    sine = np.sqrt((skew**2).sum(axis=(-2, -1)) / 8)
    cosine = (np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2
    return np.arctan2(sine, cosine)


def vector_angle(first: FloatArray, second: FloatArray) -> FloatArray:
    """Angles in radians, in [0, pi], between vectors (..., 3); accurate for small angles too."""
    cross = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.arctan2(cross, (first * second).sum(axis=-1))


class ResetChain:
    """Joins the chunks of a stream whose state is reset now and then into one trajectory.

    After a reset the network sees the frame before it once more and takes that camera for its
    world: so B[0] = I, B[i+1] = B[i] P[i] after a reset and B[i] otherwise, and the pose in the
    world of the first chunk is B[i] P[i], with P[i] what the network says.
    """

    def __init__(self, base: NDArray[np.float64] | None = None) -> None:
        self.base: FloatArray = np.eye(4) if base is None else base
        """Pose (4, 4) of the current chunk's world in the first chunk's; all there is to save."""

    def place(self, camera_to_world: FloatArray, reset_after: bool = False) -> FloatArray:
        """The pose (4, 4) in the first chunk's world; `reset_after` starts the next chunk."""
        placed = self.base @ camera_to_world
        if reset_after:
            self.base = placed
        return placed
