"""Scans from data that has poses and depth already; no network is asked."""

from mem3r_plugin.imports.rgbd import ImportRgbdConfig, import_rgbd, posed_estimates

__all__ = ["ImportRgbdConfig", "import_rgbd", "posed_estimates"]
