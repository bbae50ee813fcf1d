"""What the network says of positions, as priors whose weight is found."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import relative_pose

_NEIGHBOURS = 2  # on either side
_MIN_FRAMES = 5
_USELESS = 0.5  # of the deviation that places without any motion have


@dataclass(frozen=True, eq=False)
class PositionPriors:
    """Where frames should be by the network's motion from their neighbours in a map."""

    centres: dict[int, FloatArray]
    """World coordinates (3,) by frame index."""
    deviation: float
    """Standard deviation of one coordinate, in the map's unit: how well the network does in it."""
    indifferent: float
    """The same for the middle of the neighbours, in which no prediction has a part."""
    step: float
    """Usual distance from one frame to the next, in the map's unit."""

    @property
    def useful(self) -> bool:
        """Whether they say much more than that a frame is near its neighbours."""
        return self.deviation < _USELESS * self.indifferent


def position_priors(
    poses: dict[int, FloatArray], predicted: dict[int, FloatArray]
) -> PositionPriors | None:
    """Positions from the predicted motion between neighbours, and how far to believe them.

    Predicted poses drift, so a prior on positions in the world would bend a map that is better than
    they are. What holds is the motion between near frames: each frame is placed from two neighbours on
    either side by the predicted motion, at the scale that the map itself has there, and the median is
    taken. The spread of the map about these places estimates their variance, as in the estimation
    of variance components (Förstner, 1979), robustly: it holds for those frames, too, that
    their matches fix badly. It contains what the map itself errs, so it errs to the safe side.

    Args:
        poses: `camera_to_world` (4, 4) in the map, by frame index.
        predicted: The network's, any frame and scale.

    Returns:
        None where there are too few frames, or none that moves.
    """
    frames = [frame for frame in sorted(poses) if frame in predicted]
    if len(frames) < _MIN_FRAMES:
        return None
    truth = np.array([poses[frame][:3, 3] for frame in frames])
    near = [_near(frames, rank) for rank in range(len(frames))]
    places, indifferent = (
        np.array(
            [
                _place(frame, others, poses, predicted, _scale(others, poses, predicted) * share)
                for frame, others in zip(frames, near, strict=True)
            ]
        )
        for share in (1.0, 0.0)
    )
    if not np.isfinite(places).all() or np.array_equal(truth, indifferent):
        return None
    return PositionPriors(
        dict(zip(frames, places, strict=True)),
        _deviation(truth - places),
        _deviation(truth - indifferent),
        float(np.median(np.linalg.norm(np.diff(truth, axis=0), axis=1))),
    )


def _deviation(misses: FloatArray) -> float:
    return 1.4826 * float(np.median(np.abs(misses)))


def _near(frames: list[int], rank: int) -> list[int]:
    window = frames[max(0, rank - _NEIGHBOURS) : rank + _NEIGHBOURS + 1]
    return [frame for frame in window if frame != frames[rank]]


def _place(
    frame: int,
    near: list[int],
    poses: dict[int, FloatArray],
    predicted: dict[int, FloatArray],
    scale: float,
) -> FloatArray:
    """Median of the places that the neighbours' poses and the predicted motions give, (3,)."""
    motions = [relative_pose(predicted[other], predicted[frame])[:3, 3] for other in near]
    places = [
        poses[other][:3, 3] + scale * poses[other][:3, :3] @ motion
        for other, motion in zip(near, motions, strict=True)
    ]
    return np.asarray(np.median(places, axis=0))


def _scale(
    near: list[int], poses: dict[int, FloatArray], predicted: dict[int, FloatArray]
) -> float:
    """Length of a predicted unit in the map, from the path through the neighbours."""
    walked, said = (
        sum(np.linalg.norm(of[a][:3, 3] - of[b][:3, 3]) for a, b in pairwise(near))
        for of in (poses, predicted)
    )
    return float(walked / said) if said > 0 else 0.0
