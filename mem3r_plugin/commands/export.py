"""`mem3r export`: a scan in the formats of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_nerfstudio import NerfstudioExportConfig, export_nerfstudio
from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.exports import PointCloudConfig, export_ply, export_tum
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.scan import Scan


@dataclass(frozen=True)
class ExportColmap:
    """Write a COLMAP project: pictures, camera, poses, and points with their observations."""

    scan: tyro.conf.Positional[Path]
    """Folder of the scan; an unfinished one gives the frames it has."""
    output: tyro.conf.Positional[Path]
    """Folder of the project, made by this command."""
    config: ColmapExportConfig = field(default_factory=ColmapExportConfig)
    """How to write it."""

    def __call__(self) -> None:
        """Export and report."""
        with ProgressBars() as progress:
            report = export_colmap(Scan.open(self.scan), self.output, self.config, progress)
        print(f"{self.output}: {report.images} images, {report.points} points")
        for warning in report.warnings:
            print(f"note: {warning}")


@dataclass(frozen=True)
class ExportNerfstudio:
    """Write a nerfstudio project: pictures, transforms.json, seed points, depth, and a COLMAP model."""

    scan: tyro.conf.Positional[Path]
    """Folder of the scan; an unfinished one gives the frames it has."""
    output: tyro.conf.Positional[Path]
    """Folder of the project, made by this command."""
    config: NerfstudioExportConfig = field(default_factory=NerfstudioExportConfig)
    """How to write it."""

    def __call__(self) -> None:
        """Export and report."""
        with ProgressBars() as progress:
            report = export_nerfstudio(Scan.open(self.scan), self.output, self.config, progress)
        print(f"{self.output}: {report.images} images, {report.points} seed points")
        for warning in report.warnings:
            print(f"note: {warning}")


@dataclass(frozen=True)
class ExportTum:
    """Write the trajectory as text: a line `timestamp tx ty tz qx qy qz qw` for every frame."""

    scan: tyro.conf.Positional[Path]
    """Folder of the scan."""
    output: tyro.conf.Positional[Path]
    """The text file."""

    def __call__(self) -> None:
        """Export and report."""
        scan = Scan.open(self.scan)
        export_tum(scan, self.output)
        print(f"{self.output}: {len(scan)} poses")


@dataclass(frozen=True)
class ExportPly:
    """Write the confident depth as a coloured point cloud."""

    scan: tyro.conf.Positional[Path]
    """Folder of the scan."""
    output: tyro.conf.Positional[Path]
    """The PLY file."""
    config: PointCloudConfig = field(default_factory=PointCloudConfig)
    """Which pixels become points."""

    def __call__(self) -> None:
        """Export and report."""
        with ProgressBars() as progress:
            points = export_ply(Scan.open(self.scan), self.output, self.config, progress)
        print(f"{self.output}: {points} points")


@dataclass(frozen=True)
class Export:
    """Write a scan in the format of another program."""

    format: (
        Annotated[ExportColmap, tyro.conf.subcommand("colmap")]
        | Annotated[ExportNerfstudio, tyro.conf.subcommand("nerfstudio")]
        | Annotated[ExportTum, tyro.conf.subcommand("tum")]
        | Annotated[ExportPly, tyro.conf.subcommand("ply")]
    )
    """The format."""


def parse(
    arguments: Sequence[str],
) -> ExportColmap | ExportNerfstudio | ExportTum | ExportPly:
    """Read the format and its options."""
    return parse_options(Export, "export", arguments).format
