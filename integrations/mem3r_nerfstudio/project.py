"""From whatever a user has to a project that nerfstudio reads; what was made once is used again."""

from __future__ import annotations

import json
from pathlib import Path

from mem3r_nerfstudio.export import (
    REPORT,
    TRANSFORMS,
    NerfstudioExportConfig,
    export_nerfstudio,
    scan_digest,
)
from mem3r_plugin.errors import SourceError
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import HEADER
from mem3r_plugin.stream.run import RunConfig, run


def provide_project(
    data: Path, folder: Path | None = None, model: str = "mem3r-tiny", weights: str | None = None
) -> Path:
    """The folder of an up-to-date nerfstudio project for `data`.

    Args:
        data: A project, a scan, a video or a folder of pictures.
        folder: Where the scan and the project are kept; None: beside `data`, as `NAME.mem3r`.
        model: Network preset, where `data` has to be reconstructed first. An interrupted
            reconstruction goes on where it was.
        weights: Its weights.

    Raises:
        Mem3RError: `data` cannot be read, or the folder cannot be written.
    """
    data = data.resolve()
    if (data / TRANSFORMS).exists():
        return data
    if not data.exists():
        raise SourceError(f"{data} does not exist; name a scan, a video or a folder of pictures")
    folder = data.with_name(f"{data.name}.mem3r") if folder is None else folder.resolve()
    if (data / HEADER).exists():
        scan = Scan.open(data)
    else:
        options = RunConfig(str(data), folder / "scan", model=model, weights=weights, resume=True)
        scan = run(options)
    project = folder / "nerfstudio"
    if _digest(project) != scan_digest(scan):
        with ProgressBars() as progress:
            export_nerfstudio(scan, project, NerfstudioExportConfig(overwrite=True), progress)
    return project


def _digest(project: Path) -> str | None:
    """Of the scan that a project was made from; None where there is no project."""
    try:
        return str(json.loads((project / REPORT).read_text())["scan"])
    except (OSError, ValueError, KeyError):
        return None
