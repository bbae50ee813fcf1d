"""`mem3r fuse`: the depth of a scan as one coloured surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.scan import Scan

try:
    from mem3r_open3d.config import FusionConfig
    from mem3r_open3d.fuse import fuse, state_file
    from mem3r_open3d.mesh import MeshConfig
    from mem3r_open3d.render import save_picture
    from mem3r_open3d.surface import Surface, load_surface, thinned_surface
except ModuleNotFoundError as error:
    raise ConfigError(f'fusing needs {error.name}: pip install "mem3r-plugin[open3d]"') from error

_MOST_DRAWN = 1_000_000
"""Vertices of the largest surface that is drawn as it is: a picture takes memory that `--memory` does not
count. Of larger ones so many vertices are drawn at most."""


@dataclass(frozen=True)
class Fuse:
    """Fuse the depth of a scan into a coloured mesh, in bounded memory.

    The volume (.tsdf) and a picture (.png) are left beside the mesh. With --resume a fusion that was
    stopped or killed goes on, and one of a scan whose poses have changed since is brought up to date.
    """

    scan: tyro.conf.Positional[Path]
    """Folder of the scan; an unfinished one gives the frames it has."""
    output: tyro.conf.Positional[Path]
    """The surface: .ply, .glb or .obj."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How depth is fused."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """How the surface is taken from the volume."""
    resume: bool = False
    """Go on with the fusion beside the output."""
    overwrite: bool = False
    """Replace the fusion beside the output."""

    def __call__(self) -> None:
        """Fuse, draw and report."""
        scan = Scan.open(self.scan)
        picture = self.output.with_suffix(".png")
        with ProgressBars() as progress:
            report = fuse(
                scan,
                self.output,
                self.fusion,
                self.mesh,
                resume=self.resume,
                overwrite=self.overwrite,
                progress=progress,
            )
            if report.vertices:
                progress("drawing the surface", 0, 0)
                poses = np.stack([frame.camera_to_world for frame in scan.frames])
                save_picture(self._surface(report.vertices), picture, poses)
        removed = f", {report.removed} taken out" if report.removed else ""
        print(
            f"{self.output}: {report.vertices} vertices, {report.faces} faces from {report.frames} frames "
            f"({report.added} fused now{removed}), voxel {report.voxel:g}"
        )
        if report.vertices:
            print(f"{picture}: how it looks")
        print(f"note: {state_file(self.output)} keeps the volume for --resume")

    def _surface(self, vertices: int) -> Surface:
        """What to draw of the surface: all of it, or some of the vertices of a large one."""
        if vertices <= _MOST_DRAWN:
            return load_surface(self.output)
        return thinned_surface(state_file(self.output), -(-vertices // _MOST_DRAWN))


def parse(arguments: Sequence[str]) -> Fuse:
    """Read the options of `mem3r fuse`."""
    return parse_options(Fuse, "fuse", arguments)
