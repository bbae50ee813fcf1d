"""The network's motion between frames, as far as measured motions show it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose
from mem3r_plugin.refine.graph.edges import Motion
from mem3r_plugin.refine.graph.pose_graph import whitening

MeasuredMotion = tuple[int, int, Similarity]
"""First frame, second frame, and the motion that takes the second's coordinates to the first's."""

_ENOUGH = 5  # motions from which errors are judged
_UNKNOWN = (
    0.2  # errors of a network that nothing was compared with: radians, share of the step, log
)
_LEAST = 1e-3
_CHI_MEDIAN = {1: 0.6745, 3: 1.538}  # of so many degrees of freedom


@dataclass(frozen=True, eq=False)
class NetworkMotion:
    """Predicted poses with the errors of one step from frame to frame.

    Errors grow as those of a random walk, with the root of the number of frames in between.
    """

    predicted: FloatArray
    """The network's `camera_to_world` poses of all frames, (N, 4, 4)."""
    factor: float
    """What the predicted lengths are multiplied by; near 0 where they say nothing."""
    rotation: float
    """Standard deviation of a step's rotation, radians."""
    translation: float
    """The same of its translation, in units of depth."""
    scale: float
    """The same of the logarithm of scale."""

    @classmethod
    def judged(cls, predicted: FloatArray, measured: Sequence[MeasuredMotion]) -> NetworkMotion:
        """The errors that measured motions show; with too few of these, cautious ones.

        The factor is the median regression of measured on predicted translations: a network whose
        motions have nothing to do with the true ones gets a factor near 0, and frames that only it
        knows are then spread evenly between the others.
        """
        steps = np.linalg.norm(np.diff(predicted[:, :3, 3], axis=0), axis=1)
        step = max(float(np.median(steps)) if len(steps) else 0.0, _LEAST)
        if len(measured) < _ENOUGH:
            return cls(predicted, 1.0, _UNKNOWN, _UNKNOWN * step, _UNKNOWN)
        gaps = np.sqrt([abs(second - first) for first, second, _ in measured])[:, None]
        said = np.array([relative_pose(predicted[i], predicted[j]) for i, j, _ in measured])
        seen = np.array([motion.translation for _, _, motion in measured])
        turns = np.array([motion.rotation for _, _, motion in measured])
        errors = Rotation.from_matrix(np.swapaxes(said[:, :3, :3], 1, 2) @ turns).as_rotvec()
        moved = said[:, :3, 3]
        shares = (seen * moved).sum(axis=1) / np.maximum((moved**2).sum(axis=1), _LEAST**4)
        factor = max(0.0, float(np.median(shares)))
        lost = seen - factor * moved
        scales = np.log([motion.scale for _, _, motion in measured])[:, None]
        return cls(
            predicted,
            factor,
            _deviation(errors / gaps),
            max(_deviation(lost / gaps), 0.01 * step * factor),
            _deviation(scales / gaps),
        )

    def between(self, first: int, second: int) -> Motion:
        """The motion from one frame to another."""
        said = relative_pose(self.predicted[first], self.predicted[second])
        gap = float(np.sqrt(max(1, abs(second - first))))
        deviations = gap * np.repeat([self.rotation, self.translation], 3)
        motion = Similarity(1.0, said[:3, :3], self.factor * said[:3, 3])
        return Motion(motion, whitening(np.diag(deviations**2), gap * self.scale))


def _deviation(errors: FloatArray) -> float:
    """Standard deviation of each component of errors (n, 1) or (n, 3), from the median length."""
    typical = float(np.median(np.linalg.norm(errors, axis=1)))
    return max(typical / _CHI_MEDIAN[errors.shape[1]], _LEAST)
