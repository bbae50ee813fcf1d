"""The poses of a whole scan after refinement, with the points behind them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ScanError
from mem3r_plugin.files import write_atomically
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.refine.undistort import Undistortion

Support = Literal["mapped", "tracked", "carried"]
"""Why a frame is where it is: bundle adjustment, map points followed into it, or its neighbours."""

_SUPPORTS: tuple[Support, ...] = ("mapped", "tracked", "carried")


@dataclass(frozen=True, eq=False)
class PosedFrames:
    """N frames, all with a pose, and P triangulated points with M sightings."""

    camera: Intrinsics
    """The camera of all frames, in original pixels."""
    camera_to_world: FloatArray
    """Poses, shape (N, 4, 4); world is the first camera, lengths in the network's unit."""
    support: tuple[Support, ...]
    """What every pose rests on."""
    points: FloatArray
    """World coordinates, shape (P, 3)."""
    frames: NDArray[np.int64]
    """The frame of every sighting, rising, shape (M,)."""
    rows: NDArray[np.int64]
    """The point of every sighting, shape (M,)."""
    pixels: FloatArray
    """Where it is seen, original pixels, shape (M, 2)."""
    undistortion: Undistortion | None = None
    """How pictures become those of `camera`, in whose pixels all of this is; None: they are."""

    def seen(self, index: int) -> tuple[FloatArray, FloatArray]:
        """Original pixels (m, 2) at which a frame sees points, and their z-depths (m,), all positive."""
        start, end = np.searchsorted(self.frames, [index, index + 1])
        world_to_camera = invert_pose(self.camera_to_world[index])
        depth = transform_points(world_to_camera, self.points[self.rows[start:end]])[:, 2]
        return self.pixels[start:end][depth > 0], depth[depth > 0]

    def count(self, support: Support) -> int:
        """How many poses rest on it."""
        return self.support.count(support)

    def scaled(self, factor: float) -> PosedFrames:
        """All lengths multiplied, and the first camera made the world."""
        to_first = invert_pose(self.camera_to_world[0])
        poses = to_first @ self.camera_to_world
        poses[:, :3, 3] *= factor
        poses[0] = np.eye(4)
        points = factor * transform_points(to_first, self.points)
        return replace(self, camera_to_world=poses, points=points)

    def save(self, file: Path) -> None:
        """Write all of it to an `.npz` file, whole or not at all."""
        content = io.BytesIO()
        bent = self.undistortion and self.undistortion.to_json()
        np.savez(
            content,
            camera=np.array(list(asdict(self.camera).values()), np.float64),
            camera_to_world=self.camera_to_world,
            support=np.array([_SUPPORTS.index(support) for support in self.support], np.int64),
            points=self.points,
            frames=self.frames,
            rows=self.rows,
            pixels=self.pixels,
            undistortion=np.array(json.dumps(bent)),
        )
        write_atomically(file, content.getvalue())

    @classmethod
    def load(cls, file: Path) -> PosedFrames:
        """The inverse of `save`.

        Raises:
            ScanError: the file is damaged.
        """
        try:
            with np.load(file) as stored:
                fx, fy, cx, cy, width, height = stored["camera"].tolist()
                bent = json.loads(str(stored["undistortion"]))
                return cls(
                    camera=Intrinsics(fx, fy, cx, cy, int(width), int(height)),
                    camera_to_world=stored["camera_to_world"],
                    support=tuple(_SUPPORTS[code] for code in stored["support"]),
                    points=stored["points"],
                    frames=stored["frames"],
                    rows=stored["rows"],
                    pixels=stored["pixels"],
                    undistortion=bent and Undistortion.from_json(bent),
                )
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise ScanError(f"{file} is damaged ({error}); start again with --overwrite") from error


def gather_sightings(
    sightings: dict[int, tuple[NDArray[np.int64], FloatArray]], frames: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Sightings by frame as three arrays: frame (M,), row of the point (M,) and pixel (M, 2)."""
    counts = [len(sightings[frame][0]) for frame in frames]
    if not sum(counts):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2))
    return (
        np.repeat(np.array(frames, np.int64), counts),
        np.concatenate([sightings[frame][0] for frame in frames]),
        np.concatenate([sightings[frame][1] for frame in frames]),
    )
