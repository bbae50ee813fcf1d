"""A Mem3R scan in Open3D: fused surfaces of long scans, datasets, views and pictures."""

import cv2  # noqa: F401 - before Open3D: their zlibs clash otherwise

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.dataset import RGBDFrame, ScanDataset, frame_from_estimate
from mem3r_open3d.fuse import FusionReport, fuse
from mem3r_open3d.mesh import MeshConfig
from mem3r_open3d.render import save_picture
from mem3r_open3d.sink import TsdfSink
from mem3r_open3d.surface import Surface, load_surface, scan_surface

__all__ = [
    "FusionConfig",
    "FusionReport",
    "MeshConfig",
    "RGBDFrame",
    "ScanDataset",
    "Surface",
    "TsdfSink",
    "frame_from_estimate",
    "fuse",
    "load_surface",
    "save_picture",
    "scan_surface",
]
