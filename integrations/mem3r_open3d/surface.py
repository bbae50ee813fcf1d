"""Meshes and point clouds from a file, or the points of a scan, ready to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from mem3r_open3d.extract import SurfacePart
from mem3r_open3d.store import BlockStore
from mem3r_plugin.errors import SourceError
from mem3r_plugin.exports.point_cloud import colour_points, confident_points
from mem3r_plugin.scan import Scan

SUFFIXES = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off", ".pcd", ".xyz")
"""Endings of files that `load_surface` reads."""

_GREY = 180


@dataclass(frozen=True, eq=False)
class Surface:
    """N coloured points, and M triangles between them where it is a mesh."""

    positions: NDArray[np.float32]
    """World coordinates, shape (N, 3)."""
    colors: NDArray[np.uint8]
    """RGB, shape (N, 3)."""
    normals: NDArray[np.float32] | None
    """Unit vectors, shape (N, 3), to the side that was seen: normals of a mesh, for the points of a scan
    the direction to the camera; None where unknown."""
    faces: NDArray[np.int32] | None
    """Vertex indices, shape (M, 3), anticlockwise from the side that was seen; None for a point cloud."""


def load_surface(file: Path) -> Surface:
    """The mesh or point cloud in a file; what has no colour is grey.

    A scan's y axis points down, glTF's up: what comes from .glb and .gltf is turned back.

    Raises:
        SourceError: the file is missing, of no known kind, or empty.
    """
    if not file.is_file():
        raise SourceError(f"{file} does not exist: give a scan, a mesh or a point cloud")
    if file.suffix.lower() not in SUFFIXES:
        raise SourceError(f"{file} is no mesh or point cloud: it must end in {', '.join(SUFFIXES)}")
    if file.suffix == ".ply" and not _begins(file, b"ply"):
        raise SourceError(f"{file} is damaged: it does not begin as a PLY does")
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        mesh = o3d.io.read_triangle_mesh(str(file)) if file.suffix not in (".pcd", ".xyz") else None
        if mesh is not None and mesh.has_triangles():
            if file.suffix.lower() in (".glb", ".gltf"):
                mesh.transform(np.diag([1.0, -1.0, -1.0, 1.0]))
            faces = np.asarray(mesh.triangles).astype(np.int32)
            if not mesh.has_vertex_normals():
                mesh.compute_vertex_normals()
            return _surface(mesh.vertices, mesh.vertex_colors, mesh.vertex_normals, faces)
        cloud = o3d.io.read_point_cloud(str(file))
    if not cloud.has_points():
        raise SourceError(f"{file} holds neither triangles nor points, or is damaged")
    return _surface(cloud.points, cloud.colors, cloud.normals, None)


def thinned_surface(state: Path, step: int) -> Surface:
    """Every `step`-th vertex of the surface that a fusion made last, for a look at one that is too large.

    Args:
        state: The file of the fusion, see `fuse.state_file`.
        step: How many vertices one stands for.

    Raises:
        SourceError: no surface was made yet.
        ScanError: the file is damaged.
    """
    positions, colors, normals = [], [], []
    with BlockStore(state) as store:
        for region, data in store.surfaces():
            part = SurfacePart.decode(region, data)
            # Copies, so that the rest of the part can go.
            positions.append(part.positions[::step].copy())
            colors.append(part.colors[::step].copy())
            normals.append(part.normals[::step].copy())
    if not positions:
        raise SourceError(f"{state} holds no surface yet")
    return Surface(np.concatenate(positions), np.concatenate(colors), np.concatenate(normals), None)


def scan_surface(scan: Scan) -> Surface:
    """The confident points of a scan, as `mem3r export ply` writes them.

    Raises:
        ScanError: a file of the scan is missing or damaged.
        SourceError: it has no depth.
    """
    cloud = confident_points(scan)
    if not len(cloud):
        raise SourceError(f"{scan.path} has no depth to look at")
    centres = np.stack([frame.camera_to_world[:3, 3] for frame in scan.frames])
    towards = centres[cloud.frames] - cloud.positions
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    return Surface(
        cloud.positions.astype(np.float32),
        colour_points(scan, cloud),
        towards.astype(np.float32),
        None,
    )


def _surface(
    points: o3d.utility.Vector3dVector,
    colors: o3d.utility.Vector3dVector,
    normals: o3d.utility.Vector3dVector,
    faces: NDArray[np.int32] | None,
) -> Surface:
    positions = np.asarray(points).astype(np.float32)
    paint = np.full(positions.shape, _GREY, np.uint8)
    if len(colors) == len(positions):
        paint = np.rint(255 * np.asarray(colors)).astype(np.uint8)
    known = len(normals) == len(positions)
    return Surface(
        positions, paint, np.asarray(normals).astype(np.float32) if known else None, faces
    )


def _begins(file: Path, tag: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(tag)) == tag
