"""Exports of real sequences pass the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from mem3r_check import check_project
from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_nerfstudio import NerfstudioExportConfig, export_nerfstudio
from mem3r_plugin.exports import PointCloudConfig
from mem3r_plugin.stream.run import RunConfig, run

POINTS = PointCloudConfig(max_points=3000)


@pytest.mark.parametrize(
    "name",
    [
        "driving_kitti00_lowres",
        "driving_kitti06_stereo51",
        "phone_fox",
        "photo_strecha_castle_p30",
        "photo_strecha_fountain_p11",
        "rgb_courthouse",
        "rgbd_7scenes_redkitchen",
    ],
)
def test_the_first_frames(name: str, shared_data: Path, tmp_path: Path) -> None:
    source = str(shared_data / name / "rgb")
    scan = run(RunConfig(source, tmp_path / "scan", max_frames=6), silent=True)
    # Without a refinement the depth of few frames may agree nowhere.
    export_colmap(scan, tmp_path / "colmap", ColmapExportConfig(POINTS, min_track_length=1))
    export_nerfstudio(scan, tmp_path / "ns", NerfstudioExportConfig(POINTS, min_track_length=1))
    for project in (tmp_path / "colmap", tmp_path / "ns"):
        assert check_project(project).problems == ()
