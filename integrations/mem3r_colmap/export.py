"""`export_colmap`: a scan on disk becomes a COLMAP project on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mem3r_colmap.images import image_names, write_images
from mem3r_colmap.measured import measured_points, reprojection_errors
from mem3r_colmap.model import build_reconstruction, write_reconstruction
from mem3r_colmap.tracks import ObservedPoints, observe
from mem3r_plugin.exports import PointCloud, PointCloudConfig, confident_points
from mem3r_plugin.exports.files import new_folder
from mem3r_plugin.exports.scale import describe_scale
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.scan import Scan, Structure

_MODEL = "sparse/0"


@dataclass(frozen=True)
class ColmapExportConfig:
    """How a scan becomes a COLMAP project."""

    points: PointCloudConfig = field(default_factory=PointCloudConfig)
    """Which pixels become points."""
    depth_tolerance: float = 0.05
    """A picture sees a point where its own depth differs by at most this share of the point's."""
    min_track_length: int = 2
    """Points seen in fewer pictures are left out."""
    max_observations: int = 4_000_000
    """Observations of depth kept over all pictures; each picture has an equal share. In a long scan of
    a small place, where every point is seen often, this limits the number of points."""
    max_reprojection_error: float = 4.0
    """Features of a refined scan farther from their point, in pixels, are left out."""
    densify: bool = True
    """Add points from depth, good seeds for splats, to those that a refinement triangulated. A scan
    that was not refined has no others."""
    text: bool = False
    """Write the model as text instead of binary."""
    overwrite: bool = False
    """Replace an earlier export in the output folder."""


@dataclass(frozen=True)
class MeasuredPoints:
    """The part of a model that features in the pictures speak for; its errors are real residuals."""

    points: int
    """Number of triangulated points."""
    observations: int
    """Number of features that show them."""
    mean_track_length: float
    """Pictures that see a point, on average."""
    mean_reprojection_error: float
    """Over the observations, in pixels."""
    outliers: int
    """Features left out: too far from their point, or the point has too few."""


@dataclass(frozen=True)
class ColmapReport:
    """What an export wrote; also `report.json` in its folder."""

    images: int
    """Number of pictures, all of them posed."""
    points: int
    """Number of 3-D points."""
    observations: int
    """Number of 2-D observations of them."""
    mean_track_length: float
    """Pictures that see a point, on average; 0 without points."""
    mean_reprojection_error: float
    """Over the points, in pixels. Observations of points from depth are projections that the pictures'
    depth agrees with, so these points have none by construction; see `measured` for the others."""
    measured: MeasuredPoints | None
    """The points that a refinement triangulated; None for a scan that was not refined."""
    voxel_size: float
    """Edge of the voxels that thin the points from depth, in the scan's unit of length."""
    min_confidence: float
    """The least confidence of a depth that makes or confirms a point."""
    images_without_points: tuple[str, ...]
    """Pictures that see no point; they are in the model, with a pose."""
    metres_per_unit: float | None
    """Length of the model's unit, as the scan knows it; None: unknown."""
    scale: str
    """The same in words, with its uncertainty and source."""
    warnings: tuple[str, ...]
    """What a user should know, one sentence each."""


def export_colmap(
    scan: Scan,
    output: Path,
    config: ColmapExportConfig | None = None,
    progress: ProgressCallback = no_progress,
) -> ColmapReport:
    """Write `images/`, `sparse/0/` and `report.json` below `output`.

    The pictures are upright and at original resolution, share one PINHOLE camera, or have one each
    where the frames of the scan have, and have ids in the order of their names. The model's world and
    unit of length are the scan's. Points that a refinement triangulated come with the features they
    were triangulated from; points from depth follow them.

    Raises:
        ScanError: the scan is damaged, or its pictures have changed since.
        OutputError: `output` is in use or cannot be written; nothing of this export is left there.
    """
    config = config or ColmapExportConfig()
    with new_folder(Path(output), config.overwrite, marker=_MODEL) as folder:
        structure = scan.structure()
        measured = _measured(scan, structure, config)
        cloud = confident_points(scan, config.points, progress)
        points = measured
        if structure is None or config.densify:
            points = measured.and_then(_from_depth(scan, cloud, config, progress))
        names = image_names(scan)
        (folder / "images").mkdir()
        colours = write_images(scan, names, folder / "images", points, progress)
        progress("writing the model", 0, 0)
        model = build_reconstruction(scan, names, points.positions, colours, points.observations)
        without_points = [image.name for image in model.images.values() if image.num_points3D == 0]
        report = ColmapReport(
            images=model.num_images(),
            points=model.num_points3D(),
            observations=model.compute_num_observations(),
            mean_track_length=model.compute_mean_track_length(),
            mean_reprojection_error=model.compute_mean_reprojection_error(),
            measured=None if structure is None else _describe(scan, structure, measured),
            voxel_size=cloud.voxel_size,
            min_confidence=cloud.min_confidence,
            images_without_points=tuple(sorted(without_points)),
            metres_per_unit=scan.scale.metres_per_unit if scan.scale else None,
            scale=describe_scale(scan),
            warnings=_warnings(scan, model.num_points3D(), len(without_points)),
        )
        write_reconstruction(model, folder / _MODEL, config.text)
        (folder / "report.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _measured(
    scan: Scan, structure: Structure | None, config: ColmapExportConfig
) -> ObservedPoints:
    if structure is None:
        structure = Structure.empty()
    return measured_points(scan, structure, config.max_reprojection_error, config.min_track_length)


def _from_depth(
    scan: Scan, cloud: PointCloud, config: ColmapExportConfig, progress: ProgressCallback
) -> ObservedPoints:
    share = max(1, config.max_observations // len(scan))
    seen = observe(scan, cloud, config.depth_tolerance, share, progress)
    seen = seen.of_long_tracks(config.min_track_length)
    return ObservedPoints(cloud.positions, cloud.frames, cloud.pixels, seen)


def _describe(scan: Scan, structure: Structure, measured: ObservedPoints) -> MeasuredPoints:
    kept = measured.observations
    points = len(np.unique(kept.points))
    errors = reprojection_errors(scan, measured.positions, kept)
    return MeasuredPoints(
        points=points,
        observations=len(kept),
        mean_track_length=len(kept) / max(points, 1),
        mean_reprojection_error=float(errors.mean()) if len(kept) else 0.0,
        outliers=len(structure.rows) - len(kept),
    )


def _warnings(scan: Scan, points: int, without_points: int) -> tuple[str, ...]:
    warnings = []
    if not scan.complete:
        warnings.append(f"the scan is not complete; its {len(scan)} frames so far are exported")
    if points == 0:
        warnings.append(
            "no point is seen in enough pictures, so the model has poses only; "
            "--min-track-length 1 keeps points that a single picture vouches for"
        )
    elif without_points:
        warnings.append(
            f"{without_points} of {len(scan)} pictures see no point, which some readers (gsplat's) cannot "
            "take: their depth agrees with no other picture; refine the scan, or leave these pictures out"
        )
    return tuple(warnings)
