"""What a scan can be turned into without any host: trajectory, point cloud."""

from mem3r_plugin.exports.ply import export_ply
from mem3r_plugin.exports.point_cloud import (
    PointCloud,
    PointCloudConfig,
    colour_points,
    confident_points,
    sample_colours,
)
from mem3r_plugin.exports.tum import export_tum

__all__ = [
    "PointCloud",
    "PointCloudConfig",
    "colour_points",
    "confident_points",
    "export_ply",
    "export_tum",
    "sample_colours",
]
