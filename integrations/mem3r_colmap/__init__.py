"""A Mem3R scan as a COLMAP project, the input of gsplat, 3DGS, nerfstudio and COLMAP itself."""

from mem3r_colmap.export import ColmapExportConfig, ColmapReport, export_colmap

__all__ = ["ColmapExportConfig", "ColmapReport", "export_colmap"]
