"""A long corridor with exact depth: five thousand frames of it, made on the fly or written as a scan.

The corridor runs around a rectangular block of rooms and is lined with doors, cabinets and pillars, so
that every stretch looks like every other to a clock and to the memory, and the end meets the beginning.

    .venv/bin/python benchmarks/corridor.py /tmp/corridor --frames 5000
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d
import tyro
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix, relative_pose
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import MetricScale, ScanHeader
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.stream.progress import RunProgress

DEPTH_UNIT = 0.001
"""Metres to a step of stored depth: half a millimetre of rounding at most."""
_CORNER = 1.0
"""Radius of the camera's way around a corner, in metres."""
_EYE = 1.4
"""Height of the camera above the floor."""


@dataclass(frozen=True)
class CorridorConfig:
    """The building and the walk; equal values give equal frames. Lengths in metres."""

    frames: int = 5000
    """Frames of the walk."""
    step: float = 0.03
    """Way from frame to frame."""
    size: tuple[int, int] = (640, 480)
    """Width and height of the pictures."""
    focal: float = 525.0
    """Focal length at 640 pixels of width, in pixels."""
    reach: float = 8.0
    """Depth beyond is unknown, as to a depth camera."""
    overlap: float = 5.0
    """How far the walk goes on where it began."""
    width: float = 2.4
    """Width of the corridor."""
    height: float = 2.6
    """Height of the corridor."""


class Corridor:
    """The corridor, its walk and what the camera sees. Axes: x and y along the floor, z up."""

    def __init__(self, config: CorridorConfig) -> None:
        self.config = config
        way = max(24.0, config.frames * config.step - config.overlap)
        self._side = way / 4
        width, height = config.size
        self.camera = Intrinsics.centred(config.focal * width / 640, width, height)

    @cached_property
    def world_from_first(self) -> FloatArray:
        """The first camera, which is the world of all frames, in the building's axes, (4, 4)."""
        return self._pose_in_building(0)

    def pose(self, index: int) -> FloatArray:
        """The camera-to-world pose of a frame, (4, 4); the first one is the world."""
        return relative_pose(self.world_from_first, self._pose_in_building(index))

    @cached_property
    def mesh(self) -> o3d.geometry.TriangleMesh:
        """The exact surface in the world of the frames, coloured face by face."""
        mesh = o3d.geometry.TriangleMesh()
        for low, high, colour in _boxes(self._side, self.config):
            mesh += _box(low, high, colour)
        return mesh.transform(invert_pose(self.world_from_first))

    def view(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The picture (h, w, 3) and the z-depth (h, w) of a frame; 0 beyond the reach."""
        height, width = self.camera.height, self.camera.width
        pose = self.pose(index)
        rays = np.empty((height, width, 6), np.float32)
        rays[..., :3] = pose[:3, 3]
        rays[..., 3:] = self._directions @ pose[:3, :3].T.astype(np.float32)
        hits = self._scene.cast_rays(o3d.core.Tensor(rays), nthreads=1)
        depth = hits["t_hit"].numpy()  # directions have z = 1
        known = depth < self.config.reach
        face = np.where(known, hits["primitive_ids"].numpy(), 0)
        return np.where(known[..., None], self._paint[face], np.uint8(0)), np.where(
            known, depth, np.float32(0)
        )

    def estimates(self, start: int = 0) -> Iterator[FrameEstimate]:
        """The frames from `start` on, as the front end would give them."""
        transform = ImageTransform.identity(self.config.size)
        for index in range(start, self.config.frames):
            image, depth = self.view(index)
            yield FrameEstimate(
                frame=Frame(index, f"{index:06d}.png", index / 30, image, position=index),
                camera_to_world=self.pose(index),
                depth=depth,
                confidence=np.where(depth > 0, np.float32(1000), np.float32(1)),
                intrinsics=self.camera,
                transform=transform,
                focal=self.camera.fx,
            )

    def _pose_in_building(self, index: int) -> FloatArray:
        """Along a square with round corners, looking about a little."""
        way = index * self.config.step
        x, y, heading = _along_square(way, self._side, _CORNER)
        yaw = heading + 0.35 * math.sin(way / 1.7)
        pitch = 0.18 * math.sin(way / 1.1)
        forward = np.array(
            [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)]
        )
        right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
        rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
        return pose_matrix(rotation, [x, y, _EYE + 0.03 * math.sin(way * 4)])

    @cached_property
    def _directions(self) -> NDArray[np.float32]:
        ones = np.ones((self.camera.height, self.camera.width))
        return self.camera.unproject_depth(ones).astype(np.float32)

    @cached_property
    def _scene(self) -> o3d.t.geometry.RaycastingScene:
        scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(self.mesh))
        return scene

    @cached_property
    def _paint(self) -> NDArray[np.uint8]:
        """The colour of every triangle, (triangles, 3)."""
        first = np.asarray(self.mesh.triangles)[:, 0]
        return np.rint(255 * np.asarray(self.mesh.vertex_colors)[first]).astype(np.uint8)


def write_corridor(path: Path, config: CorridorConfig, silent: bool = False) -> Scan:
    """Write the walk as a scan with its pictures; about 200 KB a frame at 640x480."""
    header = ScanHeader(
        model={"name": "corridor"},
        settings={},
        source={"kind": "arrays"},
        camera_origin="given",
        scale=MetricScale(1.0, 0.0, "the corridor's plan"),
    )
    corridor = Corridor(config)
    sink = ScanSink(path, header, copy_images=True, overwrite=True, depth_unit=DEPTH_UNIT)
    with RunProgress(config.frames, silent=silent) as progress:
        sink.open()
        for estimate in corridor.estimates():
            sink.write(estimate)
            progress.advance()
        sink.close(complete=True)
    return Scan.open(path)


def _along_square(way: float, side: float, radius: float) -> tuple[float, float, float]:
    """Position and heading after so much way around a square with its corners cut round.

    The centre line of the corridor is the square (0, 0) to (side, side), walked anticlockwise.
    """
    straight, arc = side - 2 * radius, math.pi / 2 * radius
    lap, along = divmod(way, straight + arc)
    turns = int(lap) % 4
    if along < straight:
        x, y, heading = radius + along, 0.0, 0.0
    else:
        heading = (along - straight) / radius
        x, y = side - radius + radius * math.sin(heading), radius * (1 - math.cos(heading))
    for _ in range(turns):
        x, y = side - y, x
    return x, y, heading + turns * math.pi / 2


_Colour = tuple[float, float, float]
_Box = tuple[FloatArray, FloatArray, _Colour]
_Thing = tuple[list[float], list[float], _Colour]


def _boxes(side: float, config: CorridorConfig) -> Iterator[_Box]:
    """Lower corner, upper corner and colour of everything that is there."""
    half, top, thick = config.width / 2, config.height, 0.3
    out, inner = side + half, half
    plan = [-half - thick, -half - thick], [out + thick, out + thick]
    yield np.array([*plan[0], -thick]), np.array([*plan[1], 0.0]), (0.55, 0.45, 0.35)
    yield np.array([*plan[0], top]), np.array([*plan[1], top + thick]), (0.9, 0.9, 0.88)
    yield np.array([inner, inner, 0.0]), np.array([side - half, side - half, top]), (0.75, 0.8, 0.7)
    for turn in range(4):
        low, high = [-half - thick, -half - thick, 0.0], [out + thick, -half, top]
        yield *_turned(low, high, side, turn), (0.8, 0.75, 0.65)
        for number, x in enumerate(np.arange(1.0, side - 1.0, 1.5)):
            for box in _things(float(x), half, number):
                yield *_turned(box[0], box[1], side, turn), box[2]


def _things(x: float, half: float, number: int) -> Iterator[_Thing]:
    """What stands at the walls of the stretch from x on: outside a pillar or cabinet, inside a door."""
    shade = 0.3 + 0.5 * (number * 0.618 % 1)
    if number % 2:
        yield [x, -half, 0.0], [x + 0.35, -half + 0.3, 2.6], (shade, 0.3, 0.3)
    else:
        yield [x, -half, 0.0], [x + 0.9, -half + 0.4, 0.9], (0.3, shade, 0.4)
        yield [x + 0.2, -half + 0.1, 0.9], [x + 0.5, -half + 0.3, 1.2], (0.2, 0.3, shade)
    if half + 0.5 < x:
        yield [x, half - 0.06, 0.0], [x + 0.9, half, 2.05], (0.5, 0.35, shade)
        yield [x + 0.75, half - 0.12, 1.0], [x + 0.82, half - 0.06, 1.05], (0.9, 0.8, 0.2)


def _turned(
    low: list[float], high: list[float], side: float, turns: int
) -> tuple[FloatArray, FloatArray]:
    """A box carried so many quarter turns around the middle of the square."""
    corners = np.array([low, high])
    for _ in range(turns):
        corners = np.stack([side - corners[:, 1], corners[:, 0], corners[:, 2]], axis=1)
    return corners.min(axis=0), corners.max(axis=0)


def _box(low: FloatArray, high: FloatArray, colour: _Colour) -> o3d.geometry.TriangleMesh:
    """A box whose six faces have vertices of their own, each in its own shade."""
    box = o3d.geometry.TriangleMesh.create_box(*(high - low)).translate(low)
    triangles = np.asarray(box.triangles)
    vertices = np.asarray(box.vertices)[triangles.ravel()]
    normals = np.cross(vertices[1::3] - vertices[::3], vertices[2::3] - vertices[::3])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    light = np.repeat(0.75 + 0.25 * normals @ [0.4, 0.2, 0.8], 3)
    faces = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices),
        o3d.utility.Vector3iVector(np.arange(len(vertices)).reshape(-1, 3)),
    )
    faces.vertex_colors = o3d.utility.Vector3dVector(np.outer(light, colour))
    return faces


@dataclass(frozen=True)
class _Command(CorridorConfig):
    """Write the corridor as a scan."""

    output: tyro.conf.Positional[Path] = Path("corridor")
    """Folder of the scan; a scan in it is replaced."""

    def __call__(self) -> None:
        scan = write_corridor(self.output, self)
        print(f"{self.output}: {len(scan)} frames")


if __name__ == "__main__":
    tyro.cli(_Command)()
