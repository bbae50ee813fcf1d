"""From whatever a user has to a project that nerfstudio reads; what was made once is used again."""

from __future__ import annotations

from pathlib import Path

from mem3r_nerfstudio.export import TRANSFORMS
from mem3r_nerfstudio.process import PROJECT, ProcessConfig, process, provide_export
from mem3r_plugin.errors import SourceError
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import HEADER


def provide_project(
    data: Path, folder: Path | None = None, model: str = "mem3r-tiny", weights: str | None = None
) -> Path:
    """The folder of an up-to-date nerfstudio project for `data`.

    Args:
        data: A project, a scan, a video or a folder of pictures.
        folder: Where the scan and the project are kept; None: beside `data`, as `NAME.mem3r`.
        model: Network preset, where `data` has to be reconstructed and refined first. An interrupted
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
    if not (data / HEADER).exists():
        return process(ProcessConfig(str(data), folder, model=model, weights=weights))
    with ProgressBars() as progress:
        return provide_export(Scan.open(data), folder / PROJECT, progress)
