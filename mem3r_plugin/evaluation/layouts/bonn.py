"""Bonn RGB-D dynamic: TUM's layout in a folder named `rgbd_bonn_*`, poses of a marker.

Palazzolo et al., "ReFusion: 3D reconstruction in dynamic environments for RGB-D cameras exploiting
residuals", IROS 2019; calibration from the data set's page.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mem3r_plugin.evaluation.layouts import tum
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry.pose import (
    pose_matrix,
    quaternion_from_rotation,
    rotation_from_quaternion,
)

_CALIBRATION = (542.822841, 542.576870, 315.593520, 237.756098)
_AXES = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""Between the motion capture system's axes and those of the ground truth file."""
_PUBLISHED_ROTATION = np.array(
    [[1.0157, 0.1828, -0.2389], [0.0009, -0.8431, -0.6413], [-0.3009, 0.6147, -0.8085]]
)
_MARKER_FROM_CAMERA = pose_matrix(
    rotation_from_quaternion(quaternion_from_rotation(_PUBLISHED_ROTATION)),
    [0.0113, -0.0098, 0.0111],
)
"""The published matrix is not quite a rotation; the nearest one is taken."""


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's files and name."""
    return "bonn" in directory.resolve().name and tum.matches(directory)


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`.

    Raises:
        SourceError: a file is missing or damaged.
    """
    sequence = tum.read_lists(directory, _CALIBRATION)
    poses = _AXES @ sequence.camera_to_world @ _AXES @ _MARKER_FROM_CAMERA
    return replace(sequence, camera_to_world=poses)
