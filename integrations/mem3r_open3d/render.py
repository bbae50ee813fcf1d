"""Pictures of a surface on a machine without a screen: rays on the CPU, no OpenGL, no EGL.

Surfaces have a side that was seen and a side that never was. Rays pass through the latter, so that a
room can be looked into from outside, through its walls and its ceiling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from mem3r_open3d.surface import Surface
from mem3r_plugin.exports.files import write_file
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix, transform_points

PANEL = (640, 480)
"""Width and height of a view in a picture."""

MOST_FACES = 6_000_000
"""Larger meshes are drawn by their vertices, which takes far less memory and looks the same from afar."""

_SUPERSAMPLE = 2
_MARGIN = 1.05
_BACKGROUND = 245
_DIRECTIONS = 12
"""From so many sides an overview may be taken."""
_LAYERS = 12
"""Unseen sides that a ray passes through before it gives up."""
_AMBIENT = 0.5
_LARGEST_DOT = 15
"""Edge of the largest dot of a point cloud, in pixels."""
_FIELD_OF_VIEW = math.radians(35)
_ELEVATION = math.radians(50)
_INSIDE = (0.005, 0.995)
"""Part of the points, along each axis, that an overview is fitted to; the rest may be noise."""


@dataclass(frozen=True)
class Viewpoint:
    """Where a picture is taken from."""

    camera: Intrinsics
    """The camera of the picture."""
    camera_to_world: FloatArray
    """Its pose, (4, 4), OpenCV axes."""


class Renderer(Protocol):
    """Draws one surface from anywhere."""

    def __call__(self, view: Viewpoint) -> NDArray[np.uint8]:
        """The picture, RGB (h, w, 3)."""


def renderer(surface: Surface) -> Renderer:
    """What draws a surface: its triangles, or dots where it has none or too many."""
    if surface.faces is None or len(surface.faces) > MOST_FACES:
        return _Dots(surface)
    return _Triangles(surface, surface.faces)


def save_picture(surface: Surface, file: Path, camera_to_world: FloatArray | None = None) -> None:
    """Write a picture of four views: from outside, from two sides, and from where cameras stood.

    Args:
        surface: The mesh or point cloud.
        file: A PNG, replaced as a whole.
        camera_to_world: Poses of the scan, (N, 4, 4), which tell where up is and where to look from;
            by default the world's y axis points down.

    Raises:
        OutputError: the file cannot be written.
    """
    draw = renderer(surface)
    panels = [draw(view) for view in choose_views(surface, camera_to_world)]
    sheet = np.vstack([np.hstack(panels[:2]), np.hstack(panels[2:])])
    write_file(file, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def choose_views(
    surface: Surface, camera_to_world: FloatArray | None = None
) -> tuple[Viewpoint, Viewpoint, Viewpoint, Viewpoint]:
    """Two overviews from where most can be seen and, from a walk's poses, what was seen early and late.

    Without poses the last two look from another side and from above.
    """
    up = np.array([0.0, -1.0, 0.0])
    if camera_to_world is not None:
        up = -camera_to_world[:, :3, 1].mean(axis=0)
    up = _upright(surface, up)
    best, second, third = _sides(surface, up)
    views = overview(surface, up, best), overview(surface, up, second)
    if camera_to_world is None:
        return *views, overview(surface, up, third), overview(surface, up, best, 1.5)
    early, late = (camera_to_world[len(camera_to_world) * part // 4] for part in (1, 3))
    camera = Intrinsics.centred(0.8 * PANEL[0], *PANEL)
    return *views, Viewpoint(camera, early), Viewpoint(camera, late)


def overview(
    surface: Surface, up: FloatArray, side: FloatArray, elevation: float = _ELEVATION
) -> Viewpoint:
    """The whole surface from outside and above.

    Args:
        surface: What to see.
        up: Where up is, unit (3,).
        side: The horizontal direction to stand in, unit (3,).
        elevation: Angle above the horizon, in radians, below a right angle.
    """
    back = math.cos(elevation) * side + math.sin(elevation) * up
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(-back, right), -back], axis=1)
    low, high = np.quantile(surface.positions, _INSIDE, axis=0)
    corners = np.array(np.meshgrid(*np.stack([low, high], axis=1))).reshape(3, -1).T
    middle = (low + high) / 2
    local = (corners - middle) @ rotation
    camera = Intrinsics.centred(PANEL[0] / 2 / math.tan(_FIELD_OF_VIEW / 2), *PANEL)
    reach = np.abs(local[:, :2]) * [camera.fx / camera.cx, camera.fy / camera.cy]
    distance = float((_MARGIN * reach.max(axis=1) - local[:, 2]).max())
    return Viewpoint(camera, pose_matrix(rotation, middle + distance * back))


def _upright(surface: Surface, guess: FloatArray) -> FloatArray:
    """Up, unit (3,), as floors and tables near a guess have it."""
    up = guess / max(float(np.linalg.norm(guess)), 1e-9)
    if surface.normals is None or surface.faces is None:  # points may have no true normals
        return up
    normals = surface.normals[:: _thinning(surface)].astype(np.float64)
    for angle in (40, 30, 20, 10):
        level = normals[normals @ up > math.cos(math.radians(angle))]
        if len(level):
            up = level.mean(axis=0) / np.linalg.norm(level.mean(axis=0))
    return up


def _sides(surface: Surface, up: FloatArray) -> list[FloatArray]:
    """Three horizontal directions, unit (3,), at least a quarter turn apart, most is seen from first."""
    across = np.cross(up, [0.0, 0.0, 1.0] if abs(up[2]) < 0.9 else [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    turns = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    sides = np.outer(np.cos(turns), across) + np.outer(np.sin(turns), np.cross(up, across))
    seen = np.zeros(_DIRECTIONS)
    if surface.normals is not None:
        normals = surface.normals[:: _thinning(surface)]
        seen = np.maximum(normals @ sides.T.astype(np.float32), 0).sum(axis=0)
    chosen: list[FloatArray] = []
    for rank in np.argsort(-seen, kind="stable"):
        if all(side @ sides[rank] < 1e-6 for side in chosen):
            chosen.append(sides[rank])
    return chosen[:3]


def _thinning(surface: Surface) -> int:
    return max(1, len(surface.positions) // 100_000)


class _Triangles:
    """Rays cast at a mesh."""

    def __init__(self, surface: Surface, faces: NDArray[np.int32]) -> None:
        self._surface, self._faces = surface, faces
        self._scene = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            o3d.core.Tensor(surface.positions), o3d.core.Tensor(faces.astype(np.uint32))
        )

    def __call__(self, view: Viewpoint) -> NDArray[np.uint8]:
        """The picture, RGB (h, w, 3)."""
        camera = _enlarged(view.camera, _SUPERSAMPLE)
        rotation = view.camera_to_world[:3, :3]
        rays = camera.unproject_depth(np.ones((camera.height, camera.width))) @ rotation.T
        rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)
        pixels = np.full((camera.height * camera.width, 3), _BACKGROUND, np.float32)
        self._cast(view.camera_to_world[:3, 3].astype(np.float32), rays.reshape(-1, 3), pixels)
        fine = pixels.reshape(camera.height, camera.width, 3)
        small = cv2.resize(
            fine, (view.camera.width, view.camera.height), interpolation=cv2.INTER_AREA
        )
        return np.rint(small).astype(np.uint8)

    def _cast(
        self, origin: NDArray[np.float32], rays: NDArray[np.float32], pixels: NDArray[np.float32]
    ) -> None:
        """Paint the pixels (n, 3) whose rays (n, 3) meet a side that was seen."""
        going = np.arange(len(rays))
        travelled = np.zeros(len(rays), np.float32)
        for _ in range(_LAYERS):
            directions = rays[going]
            starts = origin + travelled[going, None] * directions
            hits = self._scene.cast_rays(o3d.core.Tensor(np.hstack([starts, directions])))
            distance = hits["t_hit"].numpy()
            hit = np.isfinite(distance)
            facing = (hits["primitive_normals"].numpy() * directions).sum(axis=1) < 0
            seen = hit & facing
            pixels[going[seen]] = self._shade(
                hits["primitive_ids"].numpy()[seen],
                hits["primitive_uvs"].numpy()[seen],
                directions[seen],
            )
            through = hit & ~facing
            going = going[through]
            travelled[going] += distance[through] * (1 + 1e-5) + 1e-5
            if not len(going):
                return

    def _shade(
        self,
        primitives: NDArray[np.uint32],
        uv: NDArray[np.float32],
        directions: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Colours (n, 3) of hits, lit from the camera."""
        corners = self._faces[primitives]
        weights = np.stack([1 - uv.sum(axis=1), uv[:, 0], uv[:, 1]], axis=1)[..., None]
        colors = (self._surface.colors[corners] * weights).sum(axis=1)
        assert self._surface.normals is not None, "meshes have normals"
        normals = (self._surface.normals[corners] * weights).sum(axis=1)
        facing = np.abs((normals * directions).sum(axis=1)) / np.linalg.norm(normals, axis=1).clip(
            1e-9
        )
        lit: NDArray[np.float32] = colors * (_AMBIENT + (1 - _AMBIENT) * facing)[:, None]
        return lit


class _Dots:
    """Square dots in a depth buffer, as large as to close the gaps between neighbours."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        low, high = np.quantile(surface.positions, _INSIDE, axis=0)
        area = np.sort(high - low)[1:].prod()
        self._spacing = 3 * math.sqrt(area / len(surface.positions))

    def __call__(self, view: Viewpoint) -> NDArray[np.uint8]:
        """The picture, RGB (h, w, 3)."""
        surface, position = self._surface, view.camera_to_world[:3, 3]
        local = transform_points(
            invert_pose(view.camera_to_world), surface.positions.astype(np.float64)
        )
        visible = local[:, 2] > 0
        if surface.normals is not None:
            directions = surface.positions - position.astype(np.float32)
            visible &= (directions * surface.normals).sum(axis=1) < 0
        nearest = self._nearest(view.camera, local[visible])
        pixels = np.full((len(nearest), 3), _BACKGROUND, np.uint8)
        hit = nearest >= 0
        pixels[hit] = surface.colors[visible][nearest[hit]]
        return pixels.reshape(view.camera.height, view.camera.width, 3)

    def _nearest(self, camera: Intrinsics, points: FloatArray) -> NDArray[np.int64]:
        """Which of the points (n, 3) each pixel shows, -1 for none, (height * width)."""
        depth = points[:, 2].astype(np.float32)
        edge = np.clip(np.ceil(self._spacing * camera.fx / depth), 1, _LARGEST_DOT)
        with np.errstate(invalid="ignore", over="ignore"):
            corner = np.clip(camera.project(points) - edge[:, None] / 2 + 0.5, -1e6, 1e6)
        column, row = np.floor(corner).astype(np.int64).T
        # Bits of positive floats rise with them, so the smallest key is the nearest point.
        keys = (depth.view(np.uint32).astype(np.uint64) << np.uint64(32)) | np.arange(
            len(depth), dtype=np.uint64
        )
        none = np.iinfo(np.uint64).max
        buffer = np.full(camera.height * camera.width, none)
        largest = int(edge.max(initial=0))
        for down, right in np.ndindex(largest, largest):
            x, y = column + right, row + down
            drawn = (max(down, right) < edge) & (x >= 0) & (x < camera.width)
            drawn &= (y >= 0) & (y < camera.height)
            np.minimum.at(buffer, y[drawn] * camera.width + x[drawn], keys[drawn])
        found = (buffer & np.uint64(0xFFFFFFFF)).astype(np.int64)
        found[buffer == none] = -1
        return found


def _enlarged(camera: Intrinsics, factor: int) -> Intrinsics:
    return Intrinsics(
        camera.fx * factor,
        camera.fy * factor,
        camera.cx * factor,
        camera.cy * factor,
        camera.width * factor,
        camera.height * factor,
    )
