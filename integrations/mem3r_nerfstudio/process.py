"""The whole way from a video to a project, in the manner of `ns-process-data`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from mem3r_nerfstudio.export import NerfstudioExportConfig, export_nerfstudio, is_project_of
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.refine.refine import KEEP_SCALE, RefineConfig, refine
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import RunConfig, run
from mem3r_plugin.stream.shared_camera import CameraMode

SCAN, REFINED, PROJECT = "scan", "refined", "project"
"""Folders of what each step makes."""


@dataclass(frozen=True)
class ProcessConfig:
    """From a video or pictures to a project for nerfstudio, COLMAP and 3-D Gaussian splatting."""

    source: tyro.conf.Positional[str]
    """Video file, image folder, or glob such as 'walk/*.jpg'."""
    output: tyro.conf.Positional[Path]
    """Folder for everything: the project, and the scans it was made from."""
    model: str = RunConfig.model
    """Name of a preset, or a YAML file."""
    weights: str | None = None
    """Bundled name, file or Hugging Face repository; by default those named like the model."""
    stride: int = RunConfig.stride
    """Take every stride-th frame."""
    fps: float | None = None
    """Thin a video to about this many frames a second, in place of a stride."""
    max_frames: int | None = None
    """Stop after this many usable frames."""
    camera: CameraMode = RunConfig.camera
    """One camera for all frames, or one per frame, for a zoom that changes; those are not refined."""
    intrinsics: str | None = None
    """The camera if it is known: f, or fx,fy,cx,cy, in original pixels."""
    masks: Path | None = None
    """Folder of masks named like the frames; black is left out."""
    device: str | None = None
    """Where the network runs; by default a GPU if there is one."""
    no_refine: bool = False
    """Keep the network's own poses and depth instead of letting geometry check them."""
    scale: str = KEEP_SCALE
    """What the length of the unit is measured by while refining; see `mem3r scale --help`."""


def process(config: ProcessConfig) -> Path:
    """Run, refine, export: what is there already from an earlier call is used again.

    Stopped or killed, the same call goes on where it was.

    Returns:
        The folder of the project; see `export_nerfstudio` for what is in it.

    Raises:
        Mem3RError: what the user can mend, in any of the steps.
    """
    shared = {field.name for field in fields(RunConfig)} & {f.name for f in fields(config)}
    options = {name: getattr(config, name) for name in shared} | {"resume": True}
    scan = run(RunConfig(**{**options, "output": config.output / SCAN}))
    with ProgressBars() as progress:
        if not config.no_refine and scan.camera_mode == "shared":
            settings = RefineConfig(scan.path, config.output / REFINED, scale=config.scale)
            scan = refine(settings, progress)
        return provide_export(scan, config.output / PROJECT, progress)


def provide_export(scan: Scan, project: Path, progress: ProgressBars) -> Path:
    """The project of a scan, exported anew where it is missing or the scan has changed since."""
    if not is_project_of(project, scan):
        export_nerfstudio(scan, project, NerfstudioExportConfig(overwrite=True), progress)
    return project
