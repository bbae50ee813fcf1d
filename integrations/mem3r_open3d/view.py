"""A window on a surface and the cameras that saw it."""

from __future__ import annotations

import os
import sys

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d

from mem3r_open3d.surface import Surface
from mem3r_plugin.errors import OutputError
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.scan import Scan

_SIZE = (1280, 800)
_MOST_CAMERAS = 60
"""Cameras drawn as pyramids; the line of the walk goes through all."""
_CAMERA_SIZE = 0.03
"""Height of a camera's pyramid, relative to the walk and what it saw."""
_WALK, _PYRAMID = (0.9, 0.3, 0.1), (0.1, 0.3, 0.8)

_NO_SCREEN = "there is no screen to open a window on: give --picture FILE.png, which needs none"


def show(surface: Surface, scan: Scan | None = None, title: str = "mem3r") -> None:
    """Open a window and return when it is closed.

    Args:
        surface: The mesh or point cloud.
        scan: The scan whose walk and cameras to draw as well.
        title: Of the window.

    Raises:
        OutputError: there is no screen.
    """
    if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        raise OutputError(_NO_SCREEN)
    geometries = [_geometry(surface)]
    if scan is not None:
        geometries += camera_geometries(scan, float(np.ptp(surface.positions, axis=0).max()))
    window = o3d.visualization.Visualizer()
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        if not window.create_window(title, *_SIZE):
            raise OutputError(_NO_SCREEN)
        for geometry in geometries:
            window.add_geometry(geometry)
        window.get_view_control().set_up([0.0, -1.0, 0.0])
        window.get_view_control().set_front([0.0, -0.3, -1.0])
        window.run()
        window.destroy_window()


def camera_geometries(scan: Scan, extent: float) -> list[o3d.geometry.LineSet]:
    """The walk as a line, and some of its cameras as pyramids.

    Args:
        scan: The scan.
        extent: How large the things around them are, in the scan's unit.
    """
    poses = np.stack([frame.camera_to_world for frame in scan.frames])
    walk = o3d.geometry.LineSet(
        o3d.utility.Vector3dVector(poses[:, :3, 3]),
        o3d.utility.Vector2iVector(
            np.stack([np.arange(len(poses) - 1), np.arange(1, len(poses))], 1)
        ),
    )
    walk.paint_uniform_color(_WALK)
    step = -(-len(poses) // _MOST_CAMERAS)
    pyramids = [
        _pyramid(scan, index, pose, _CAMERA_SIZE * extent)
        for index, pose in zip(range(0, len(poses), step), poses[::step], strict=True)
    ]
    return [walk, *pyramids]


def _pyramid(
    scan: Scan, index: int, camera_to_world: FloatArray, size: float
) -> o3d.geometry.LineSet:
    """A camera as wide and high as its field of view."""
    camera = scan.frame_camera(index)
    lines = o3d.geometry.LineSet.create_camera_visualization(
        camera.width,
        camera.height,
        camera.matrix,  # spans the picture's edges, so half-integers are right
        np.linalg.inv(camera_to_world),
        scale=size,
    )
    lines.paint_uniform_color(_PYRAMID)
    return lines


def _geometry(surface: Surface) -> o3d.geometry.TriangleMesh | o3d.geometry.PointCloud:
    points = o3d.utility.Vector3dVector(surface.positions.astype(np.float64))
    colors = o3d.utility.Vector3dVector(surface.colors / 255.0)
    if surface.faces is None:
        cloud = o3d.geometry.PointCloud(points)
        cloud.colors = colors
        return cloud
    mesh = o3d.geometry.TriangleMesh(points, o3d.utility.Vector3iVector(surface.faces))
    mesh.vertex_colors = colors
    mesh.compute_vertex_normals()
    return mesh
