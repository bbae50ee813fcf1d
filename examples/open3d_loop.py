"""A loop of your own: the front end in, Open3D's VoxelBlockGrid out.

python examples/open3d_loop.py walk.mp4 walk.ply
"""

import sys

import open3d as o3d

from mem3r_open3d.dataset import frame_from_estimate
from mem3r_plugin import FrontEnd

VOXEL, FARTHEST, BLOCKS = 0.02, 4.0, 10_000
"""Edge of a voxel, depth to leave out, and room in the grid: it must not run out (Open3D#3555)."""


def fuse(front_end: FrontEnd, source: str) -> o3d.t.geometry.TriangleMesh:
    """The mesh of a video, an image folder or a camera, fused while its frames arrive."""
    attributes = ("tsdf", "weight", "color"), (o3d.core.float32,) * 3, ((1,), (1,), (3,))
    grid = o3d.t.geometry.VoxelBlockGrid(*attributes, VOXEL, block_count=BLOCKS)
    for estimate in front_end.stream(source):
        frame = frame_from_estimate(estimate)
        camera, extrinsic = frame.grid_intrinsic, o3d.core.Tensor(frame.extrinsic)
        view = camera, extrinsic, frame.depth_scale, FARTHEST
        blocks = grid.compute_unique_block_coordinates(frame.depth, *view)
        grid.integrate(blocks, frame.depth, frame.color, *view)
    return grid.extract_triangle_mesh()


if __name__ == "__main__":
    mesh = fuse(FrontEnd.from_pretrained(), sys.argv[1])
    o3d.io.write_triangle_mesh(sys.argv[2], mesh.to_legacy())
