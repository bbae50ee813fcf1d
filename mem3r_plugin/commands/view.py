"""`mem3r view`: look at a scan, a mesh or a point cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import HEADER

try:
    from mem3r_open3d.render import save_picture
    from mem3r_open3d.surface import load_surface, scan_surface
    from mem3r_open3d.view import show
except ModuleNotFoundError as error:
    raise ConfigError(f'views need {error.name}: pip install "mem3r-plugin[open3d]"') from error


@dataclass(frozen=True)
class View:
    """Look at a scan, a mesh or a point cloud in a window, or as a picture where there is no screen."""

    path: tyro.conf.Positional[Path]
    """Folder of a scan, or a .ply, .obj, .glb, .gltf, .stl, .off, .pcd or .xyz file."""
    scan: Path | None = None
    """The scan a mesh was made from: its cameras are shown, and tell the picture where to look from."""
    picture: Path | None = None
    """Write a PNG of four views instead of opening a window."""

    def __call__(self) -> None:
        """Show.

        Raises:
            SourceError: there is nothing to look at.
            OutputError: there is no screen, or the picture cannot be written.
        """
        is_scan = (self.path / HEADER).is_file()
        folder = self.path if is_scan else self.scan
        scan = None if folder is None else Scan.open(folder)
        surface = scan_surface(scan) if is_scan and scan else load_surface(self.path)
        if self.picture is None:
            show(surface, scan, str(self.path))
            return
        poses = None if scan is None else np.stack([f.camera_to_world for f in scan.frames])
        save_picture(surface, self.picture, poses)
        print(self.picture)


def parse(arguments: Sequence[str]) -> View:
    """Read the options of `mem3r view`."""
    return parse_options(View, "view", arguments)
