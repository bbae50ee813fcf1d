"""How true fused surfaces are: beside Open3D's own volume, and against exact worlds.

    .venv/bin/python benchmarks/fusion_fidelity.py sequence ../shared/data/rgbd_7scenes_redkitchen
    .venv/bin/python benchmarks/fusion_fidelity.py world --kind room

Distances are from points spread evenly over one surface to the other surface itself, not to points of it,
so that they say nothing about the density of points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise
import numpy as np
import open3d as o3d
import torch
import tyro
from numpy.typing import NDArray

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.dataset import ScanDataset
from mem3r_open3d.fuse import fuse
from mem3r_plugin.evaluation.reconstruction import reconstruction_errors
from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.imports import ImportRgbdConfig, import_rgbd
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import ScanHeader
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.training.worlds import (
    HELD_BACK,
    Kind,
    RenderedViews,
    WorldConfig,
    generate_world,
    sample_path,
)
from mem3r_plugin.training.worlds.primitives import Primitives, Shape

_SAMPLES = 100_000
"""Points spread over a surface."""
_SIDES = 128
"""Corners of the polygon that stands for a circle: off by 0.15 mm at most at a radius of half a metre."""
_VOXELS_PER_TRUNCATION = 4.0


@dataclass(frozen=True)
class Sequence:
    """A posed RGB-D sequence fused by this package and by Open3D's ScalableTSDFVolume."""

    directory: tyro.conf.Positional[Path]
    """Folder that `mem3r import-rgbd` reads."""
    voxels: tuple[float, ...] = (0.02, 0.01)
    """Voxel sizes."""
    max_depth: float = 4.0
    """Depth beyond is left out."""
    stride: int = 4
    """Take every stride-th frame."""
    work: Path = Path("/tmp/fusion_fidelity")
    """Folder for what is written."""

    def __call__(self) -> None:
        """Print a row for every voxel size."""
        name = self.directory.resolve().name
        config = ImportRgbdConfig(
            self.directory, self.work / name, stride=self.stride, overwrite=True
        )
        scan = import_rgbd(config, silent=True)
        truth = _depth_points(scan, self.max_depth)
        for voxel in self.voxels:
            theirs = legacy_mesh(scan, voxel, self.max_depth)
            for label, angle in (("by default", None), ("as for learned depth", 80.0)):
                ours = _fused(scan, voxel, self.work, self.max_depth, angle)
                there, back = distances(ours, theirs), distances(theirs, ours)
                chamfer = (there.mean() + back.mean()) / 2
                print(
                    f"{name} {len(scan)} frames, voxel {voxel:g}, options {label}: Chamfer to Open3D's "
                    f"{1e3 * chamfer:.2f} mm ({chamfer / voxel:.3f} voxel; {1e3 * there.mean():.2f} there, "
                    f"{1e3 * back.mean():.2f} back); to the depth maps' points: "
                    f"{_against(ours, truth)}, Open3D's {_against(theirs, truth)}",
                    flush=True,
                )


@dataclass(frozen=True)
class World:
    """A procedural world with exact surfaces, depth and poses."""

    kind: Kind = "room"
    """What is built."""
    seed: int = HELD_BACK + 1
    """Of the world and of the walk."""
    frames: int = 60
    """How many are fused."""
    size: tuple[int, int] = (640, 480)
    """Width and height of the pictures."""
    voxels: tuple[float, ...] = (0.02, 0.01)
    """Voxel sizes."""
    max_depth: float = 4.0
    """Depth beyond is left out."""
    work: Path = Path("/tmp/fusion_fidelity")
    """Folder for what is written."""

    def __call__(self) -> None:
        """Print a row for every voxel size."""
        world = generate_world(WorldConfig(kind=self.kind), self.seed)
        poses = sample_path(world, 4 * self.frames, self.seed)[::4]
        camera = Intrinsics.centred(0.8 * self.size[0], *self.size)
        views = world.render(poses, camera)
        scan = _write_views(views, self.work / f"{self.kind}-{self.seed}")
        first = invert_pose(views.camera_to_world[0].numpy())
        exact = exact_mesh(world.primitives).transform(first)
        seen = _depth_points(scan, self.max_depth, exact_depth=views.depth.numpy())
        for voxel in self.voxels:
            ours = _fused(scan, voxel, self.work, self.max_depth)
            theirs = legacy_mesh(scan, voxel, self.max_depth)
            for label, mesh in (("ours", ours), ("Open3D's", theirs)):
                accuracy, completeness = distances(mesh, exact), _to_surface(seen, mesh)
                print(
                    f"{self.kind} {self.seed}, {len(scan)} frames, voxel {voxel:g}, {label}: accuracy "
                    f"{1e3 * accuracy.mean():.2f} mm (99 %: {1e3 * np.quantile(accuracy, 0.99):.1f}), "
                    f"completeness {1e3 * completeness.mean():.2f} mm "
                    f"(99 %: {1e3 * np.quantile(completeness, 0.99):.1f})",
                    flush=True,
                )


def legacy_mesh(scan: Scan, voxel: float, max_depth: float) -> o3d.geometry.TriangleMesh:
    """The surface that Open3D's ScalableTSDFVolume makes of a scan."""
    volume = o3d.pipelines.integration.ScalableTSDFVolume(
        voxel,
        _VOXELS_PER_TRUNCATION * voxel,
        o3d.pipelines.integration.TSDFVolumeColorType.RGB8,
    )
    for frame in ScanDataset(scan):
        volume.integrate(frame.rgbd(max_depth), frame.intrinsic, frame.extrinsic)
    return volume.extract_triangle_mesh()


def exact_mesh(primitives: Primitives) -> o3d.geometry.TriangleMesh:
    """The surface of a world: flat shapes as they are, round ones with many sides."""
    unit = {shape: _unit_mesh(shape) for shape in Shape}
    mesh = o3d.geometry.TriangleMesh()
    for shape, centre, to_local in zip(
        primitives.shape.tolist(), primitives.centre, primitives.to_local, strict=True
    ):
        from_local = np.eye(4)
        from_local[:3, :3] = torch.linalg.inv(to_local).numpy()
        from_local[:3, 3] = centre.numpy()
        mesh += o3d.geometry.TriangleMesh(unit[Shape(shape)]).transform(from_local)
    return mesh


def distances(
    mesh: o3d.geometry.TriangleMesh, other: o3d.geometry.TriangleMesh
) -> NDArray[np.float64]:
    """From points all over one mesh to the other one's surface, (N,)."""
    return _to_surface(_spread(mesh), other)


def _unit_mesh(shape: Shape) -> o3d.geometry.TriangleMesh:
    """A unit shape of `training.worlds.primitives` as triangles."""
    angle = np.linspace(0, 2 * np.pi, _SIDES + 1)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    match shape:
        case Shape.QUAD:
            return _triangles(
                [[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [[0, 1, 2], [0, 2, 3]]
            )
        case Shape.TRIANGLE:
            return _triangles([[-1, -1, 0], [1, -1, 0], [0, 1, 0]], [[0, 1, 2]])
        case Shape.DISC:
            radius = np.array([0.0, 1.0])
            return _sheet(radius[:, None, None] * circle, np.zeros((2, 1)))
        case Shape.CYLINDER:
            return _sheet(np.stack([circle, circle]), np.array([[-1.0], [1.0]]))
    polar = np.linspace(0, np.pi, _SIDES // 2 + 1)[:, None]
    return _sheet(np.sin(polar)[..., None] * circle, -np.cos(polar))


def _sheet(xy: FloatArray, z: FloatArray) -> o3d.geometry.TriangleMesh:
    """Triangles between rows of points: xy (rows, columns, 2) at heights z (rows, 1)."""
    rows, columns = xy.shape[:2]
    points = np.dstack([xy, np.broadcast_to(z, (rows, columns))])
    corner = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return _triangles(points.reshape(-1, 3), faces)


def _triangles(points: object, faces: object) -> o3d.geometry.TriangleMesh:
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(np.asarray(points, np.float64)),
        o3d.utility.Vector3iVector(np.asarray(faces, np.int32)),
    )


def _fused(
    scan: Scan,
    voxel: float,
    work: Path,
    max_depth: float,
    max_angle: float | None = None,
) -> o3d.geometry.TriangleMesh:
    """The surface that `mem3r fuse` makes of a scan."""
    output = work / "fused.ply"
    config = FusionConfig(
        voxel=voxel,
        truncation=_VOXELS_PER_TRUNCATION * voxel,
        max_depth=max_depth,
        max_angle=max_angle,
    )
    fuse(scan, output, config, overwrite=True)
    return o3d.io.read_triangle_mesh(str(output))


def _spread(mesh: o3d.geometry.TriangleMesh) -> FloatArray:
    """Points (N, 3) all over a mesh, always the same."""
    o3d.utility.random.seed(0)
    return np.asarray(mesh.sample_points_uniformly(_SAMPLES).points)


def _to_surface(points: FloatArray, mesh: o3d.geometry.TriangleMesh) -> NDArray[np.float64]:
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    queries = o3d.core.Tensor(points.astype(np.float32))
    return scene.compute_distance(queries).numpy().astype(np.float64)


def _against(mesh: o3d.geometry.TriangleMesh, truth: FloatArray) -> str:
    errors = reconstruction_errors(_spread(mesh), truth)
    return (
        f"completeness {1e3 * _to_surface(truth, mesh).mean():.2f} mm, "
        f"normal consistency {errors.normal_consistency:.4f}"
    )


def _depth_points(
    scan: Scan, max_depth: float, exact_depth: NDArray[np.float32] | None = None
) -> FloatArray:
    """Points (N, 3) of all depth maps of a scan, evenly thinned out."""
    points = []
    for index, frame in enumerate(scan.frames):
        depth = scan.depth(index) if exact_depth is None else exact_depth[index]
        local = scan.frame_network_camera(index).unproject_depth(depth)
        near = (depth > 0) & (depth < max_depth)
        points.append(transform_points(frame.camera_to_world, local[near][index % 7 :: 37]))
    cloud = np.concatenate(points)
    return cloud[:: -(-len(cloud) // (2 * _SAMPLES))]


def _write_views(views: RenderedViews, path: Path) -> Scan:
    """Rendered views as a scan whose world is the first of them."""
    transform = ImageTransform.identity((views.intrinsics.width, views.intrinsics.height))
    poses = views.camera_to_world.numpy()
    header = ScanHeader({"name": "world"}, {}, {"kind": "arrays"}, camera_origin="given")
    sink = ScanSink(path, header, copy_images=True, overwrite=True, depth_unit=0.0005)
    sink.open()
    for index, (image, depth) in enumerate(zip(views.images, views.depth.numpy(), strict=True)):
        pixels = (255 * image).round().to(torch.uint8).permute(1, 2, 0).numpy()
        frame = Frame(index, f"{index:06d}.png", index / 30, pixels, position=index)
        pose = invert_pose(poses[0]) @ poses[index]
        sure = np.where(depth > 0, np.float32(1000), np.float32(1))
        camera = views.intrinsics
        sink.write(FrameEstimate(frame, pose, depth, sure, camera, transform, camera.fx))
    sink.close(complete=True)
    return Scan.open(path)


Command = (
    Annotated[Sequence, tyro.conf.subcommand("sequence")]
    | Annotated[World, tyro.conf.subcommand("world")]
)

if __name__ == "__main__":
    tyro.cli(Command, config=(tyro.conf.OmitSubcommandPrefixes,))()
