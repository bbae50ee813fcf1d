"""TUM RGB-D: a folder with `rgb.txt`, `groundtruth.txt` and, where there is depth, `depth.txt`.

Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems", IROS 2012. Pictures, depth maps
and poses have clocks of their own and are associated by the nearest timestamp.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation.layouts.files import picture_size, stored_depth
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.exports.tum import read_tum
from mem3r_plugin.geometry import Intrinsics

_CALIBRATION = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
"""fx, fy, cx, cy of the three cameras at 640x480, pixel centres at integers; from the benchmark's page."""
_DEFAULT_CALIBRATION = (525.0, 525.0, 319.5, 239.5)
_MAX_DIFFERENCE = 0.02
"""Seconds between a picture and what is taken for simultaneous, as in the benchmark's own tool."""
_DEPTH_PER_METRE = 5000.0


def matches(directory: Path) -> bool:
    """Whether the folder has this layout's files."""
    return (directory / "rgb.txt").is_file() and (directory / "groundtruth.txt").is_file()


def read(directory: Path) -> PosedSequence:
    """Read the sequence in `directory`; its name tells the camera (`freiburg1` to `3`).

    Raises:
        SourceError: a file is missing or damaged.
    """
    name = directory.resolve().name
    known = [camera for key, camera in _CALIBRATION.items() if key in name]
    return read_lists(directory, *(known or [_DEFAULT_CALIBRATION]))


def read_lists(directory: Path, calibration: tuple[float, float, float, float]) -> PosedSequence:
    """Read a sequence of this layout, by a camera fx, fy, cx, cy with pixel centres at integers."""
    times, images = _file_list(directory / "rgb.txt")
    pose_times, true_poses = read_tum(directory / "groundtruth.txt")
    nearest = _nearest(times, pose_times)
    poses = np.where((nearest >= 0)[:, None, None], true_poses[nearest], np.nan)
    depth: tuple[Path | None, ...] = ()
    if (directory / "depth.txt").is_file():
        depth_times, files = _file_list(directory / "depth.txt")
        depth = tuple(files[i] if i >= 0 else None for i in _nearest(times, depth_times).tolist())
    fx, fy, cx, cy = calibration
    width, height = picture_size(images[0])
    camera = Intrinsics(fx, fy, cx + 0.5, cy + 0.5, width, height)
    decode = stored_depth(_DEPTH_PER_METRE)
    return PosedSequence(directory, images, times, poses, camera, depth, decode)


def _file_list(file: Path) -> tuple[NDArray[np.float64], tuple[Path, ...]]:
    """Timestamps (N,) and files of a list with a line `timestamp name` for each."""
    try:
        lines = file.read_text().splitlines()
        pairs = [line.split(maxsplit=1) for line in lines if line.strip() and line[0] != "#"]
        times = np.array([float(time) for time, _ in pairs])
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(f"{file} is damaged: a line is 'timestamp name' ({error})") from error
    if not pairs:
        raise SourceError(f"{file} is empty")
    return times, tuple(file.parent / name.strip() for _, name in pairs)


def _nearest(wanted: NDArray[np.float64], offered: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank in `offered` of the time nearest to each wanted one, -1 where none is near; (N,)."""
    distance = np.abs(wanted[:, None] - offered[None, :])
    nearest = distance.argmin(axis=1)
    return np.where(distance.min(axis=1) <= _MAX_DIFFERENCE, nearest, -1)
