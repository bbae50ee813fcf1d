"""MPI Sintel: `training/final/alley_1`, with cameras and depth in folders beside `final`.

Butler et al., "A naturalistic open source movie for optical flow evaluation", ECCV 2012. Name the
folder of the pictures (`final` or `clean`); `training/camdata_left/alley_1` has the cameras and
`training/depth/alley_1` the depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.layouts.files import at_rate, existing, picture_size, pictures
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix

_TAG = np.float32(202021.25)
"""First four bytes of the data set's binary files."""
_FPS = 24.0


def matches(directory: Path) -> bool:
    """Whether the folder lies where this layout's pictures do."""
    return _beside(directory, "camdata_left").is_dir()


def read(directory: Path) -> PosedSequence:
    """Read the sequence whose pictures lie in `directory`.

    Raises:
        SourceError: a file is missing or damaged.
    """
    images = pictures(directory)
    cameras = [
        _read_camera(_beside(directory, "camdata_left") / f"{image.stem}.cam") for image in images
    ]
    matrix = cameras[0][0]
    size = picture_size(images[0])
    intrinsics = Intrinsics(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *size)
    return PosedSequence(
        directory,
        images,
        at_rate(len(images), _FPS),
        np.stack([pose for _, pose in cameras]),
        intrinsics,
        existing([_beside(directory, "depth") / f"{image.stem}.dpt" for image in images]),
        _read_depth,
    )


def _beside(directory: Path, kind: str) -> Path:
    """The folder of another kind of data for the same sequence."""
    directory = directory.resolve()
    return directory.parent.parent / kind / directory.name


def _read_camera(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Calibration matrix (3, 3) and camera-to-world pose (4, 4)."""
    values = np.frombuffer(_content(file), "<f8")
    if values.size != 21:
        raise SourceError(f"{file} is damaged: a camera has 9 + 12 numbers")
    extrinsic = values[9:].reshape(3, 4)
    return values[:9].reshape(3, 3), invert_pose(pose_matrix(extrinsic[:, :3], extrinsic[:, 3]))


def _read_depth(file: Path) -> NDArray[np.float32]:
    content = _content(file)
    width, height = np.frombuffer(content[:8], "<i4").tolist()
    if len(content) != 8 + 4 * width * height:
        raise SourceError(f"{file} is damaged: it does not hold {width}x{height} depths")
    return np.frombuffer(content[8:], "<f4").reshape(height, width).copy()


def _content(file: Path) -> bytes:
    """What follows the tag of one of the data set's binary files."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror}") from error
    if content[:4] != _TAG.tobytes() or len(content) < 12:
        raise SourceError(f"{file} is damaged: it does not start as Sintel's files do")
    return content[4:]
