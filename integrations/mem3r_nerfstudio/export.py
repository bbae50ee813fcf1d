"""`export_nerfstudio`: a scan on disk becomes a project that stock nerfstudio trains on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from mem3r_colmap import ColmapExportConfig, ColmapReport, export_colmap
from mem3r_colmap.images import image_names
from mem3r_nerfstudio.axes import APPLIED_TRANSFORM, to_nerfstudio
from mem3r_nerfstudio.maps import DEPTH_UNIT, MapWriter, map_writers
from mem3r_plugin.exports.files import new_folder
from mem3r_plugin.exports.ply import write_ply
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import FRAMES, HEADER

TRANSFORMS = "transforms.json"
SEEDS = "sparse_pc.ply"
REPORT = "report.json"
MODEL = "colmap/sparse/0"

_FRAME_KEYS = {
    "depths": "depth_file_path",
    "confidences": "confidence_file_path",
    "masks": "mask_path",
}
"""Under which key a frame names its file in each folder; nerfstudio passes over those it does not know."""


@dataclass(frozen=True)
class NerfstudioExportConfig(ColmapExportConfig):
    """How a scan becomes a nerfstudio project. The points are those of the COLMAP model in it."""

    depth: bool = True
    """Write depth maps, for methods that are supervised by depth, and their confidence."""


@dataclass(frozen=True)
class NerfstudioReport:
    """What an export wrote; also `report.json` in its folder."""

    images: int
    """Number of pictures, all of them posed."""
    points: int
    """Number of seed points."""
    depth_unit: float | None
    """nerfstudio's `depth_unit_scale_factor` that fits the depth maps; None: there are none."""
    masks: bool
    """Whether the pictures have masks."""
    metres_per_unit: float | None
    """Length of the project's unit, as the scan knows it; None: unknown."""
    scale: str
    """The same in words, with its uncertainty and source."""
    scan: str
    """Digest of the scan's poses and settings, by which a changed scan is noticed."""
    colmap: ColmapReport
    """Report of the COLMAP model in the project."""
    warnings: tuple[str, ...]
    """What a user should know, one sentence each."""


def export_nerfstudio(
    scan: Scan,
    output: Path,
    config: NerfstudioExportConfig | None = None,
    progress: ProgressCallback = no_progress,
) -> NerfstudioReport:
    """Write a project in the layout of `ns-process-data` below `output`.

        images/               upright, original resolution
        transforms.json       cameras; the unit of length is the scan's
        sparse_pc.ply         seed points
        depths/, confidences/ on the grid of the pictures
        masks/                where the scan was made with masks
        colmap/sparse/0       the same as a COLMAP model, for the dataparser `colmap`
        report.json           what was written, and the metric scale

    `ns-train METHOD --data OUT` trains on it without this package, and so does
    `ns-train METHOD colmap --data OUT`: both have the same cameras and seed points.

    Raises:
        ScanError: the scan is damaged, or its pictures have changed since.
        SourceError: the masks that the scan was made with are gone or damaged.
        OutputError: `output` is in use or cannot be written; nothing of this export is left there.
    """
    config = config or NerfstudioExportConfig()
    with new_folder(Path(output), config.overwrite, marker=TRANSFORMS) as folder:
        colmap = export_colmap(scan, folder / "colmap", replace(config, overwrite=False), progress)
        (folder / "colmap" / "images").rename(folder / "images")
        (folder / "colmap" / "report.json").unlink()
        model = pycolmap.Reconstruction(str(folder / MODEL))
        names = image_names(scan)
        writers = map_writers(scan, config.depth)
        files = _write_maps(scan, names, folder, writers, progress)
        _write_seeds(model, folder / SEEDS)
        transforms = _transforms(scan, names, files)
        (folder / TRANSFORMS).write_text(json.dumps(transforms, indent=2) + "\n")
        report = NerfstudioReport(
            images=len(names),
            points=model.num_points3D(),
            depth_unit=DEPTH_UNIT if config.depth else None,
            masks="masks" in writers,
            metres_per_unit=colmap.metres_per_unit,
            scale=describe_scale(scan),
            scan=scan_digest(scan),
            colmap=colmap,
            warnings=colmap.warnings,
        )
        (folder / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def scan_digest(scan: Scan) -> str:
    """SHA-256 of a scan's `scan.json` and `frames.jsonl`."""
    content = b"".join((scan.path / name).read_bytes() for name in (HEADER, FRAMES))
    return hashlib.sha256(content).hexdigest()


def is_project_of(project: Path, scan: Scan) -> bool:
    """Whether a folder holds a project that was exported from a scan as it is now."""
    try:
        report = json.loads((project / REPORT).read_text())
        return bool(report["scan"] == scan_digest(scan))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_maps(
    scan: Scan,
    names: list[str],
    folder: Path,
    writers: dict[str, MapWriter],
    progress: ProgressCallback,
) -> list[dict[str, str]]:
    """Write the maps of all frames; by frame, the keys that name them in `transforms.json`."""
    for kind in writers:
        (folder / kind).mkdir()
    files: list[dict[str, str]] = []
    for index, name in enumerate(_map_names(names)):
        files.append({})
        for kind, write in writers.items():
            file = f"{kind}/{name}{write.suffix}"
            write(scan, index, folder / file)
            files[-1][_FRAME_KEYS[kind]] = file
        progress("writing depth and masks", index + 1, len(names))
    return files


def _map_names(names: list[str]) -> list[str]:
    """Names of the maps: without suffix, as the dataparser `colmap` expects, where that tells them apart."""
    stems = [Path(name).stem for name in names]
    return stems if len(set(stems)) == len(stems) else names


def _write_seeds(model: pycolmap.Reconstruction, file: Path) -> None:
    points = [model.points3D[point_id] for point_id in sorted(model.points3D)]
    positions = np.array([point.xyz for point in points]).reshape(-1, 3)
    colours = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
    write_ply(file, transform_points(APPLIED_TRANSFORM, positions), colours)


def _transforms(scan: Scan, names: list[str], files: list[dict[str, str]]) -> dict[str, Any]:
    """The content of `transforms.json`."""
    shared = scan.camera_mode == "shared"
    frames = [
        {
            "file_path": f"images/{name}",
            "transform_matrix": to_nerfstudio(scan.frames[index].camera_to_world).tolist(),
            **({} if shared else _camera(scan.frame_camera(index))),
            **files[index],
        }
        for index, name in enumerate(names)
    ]
    return {
        "camera_model": "OPENCV",  # nerfstudio's name of a perspective camera
        **(_camera(scan.camera) if shared else {}),
        "applied_transform": APPLIED_TRANSFORM[:3].tolist(),
        "ply_file_path": SEEDS,
        "frames": sorted(frames, key=lambda frame: str(frame["file_path"])),
    }


def _camera(camera: Intrinsics) -> dict[str, Any]:
    """A camera under nerfstudio's names; both count pixel centres at half-integers."""
    return {
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "w": camera.width,
        "h": camera.height,
    }
