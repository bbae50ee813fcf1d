"""A refined scan as a COLMAP project: features that were found, residuals that were left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_colmap.measured import measured_points, reprojection_errors
from mem3r_colmap.tracks import Observations
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.scan import Scan, Structure
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.room_scan import make_room_scan, room_colours, room_points, room_pose

NOISE = 0.3
"""Pixels, in x and in y."""


def structure_of(scan: Scan, points: int = 150, noise: float = NOISE) -> Structure:
    """Points on the walls and where each frame finds them, within noise."""
    rng = np.random.default_rng(0)
    world = room_points(scan.camera, room_pose(3)).reshape(-1, 3)
    world = world[rng.choice(len(world), points, replace=False)]
    frames, rows, pixels = [], [], []
    for index in range(len(scan)):
        seen = scan.camera.project(transform_points(invert_pose(room_pose(index)), world))
        found = seen + noise * rng.normal(size=seen.shape)
        inside = np.flatnonzero(scan.camera.contains(found))
        frames.append(np.full(len(inside), index))
        rows.append(inside)
        pixels.append(found[inside])
    return Structure(world, np.concatenate(frames), np.concatenate(rows), np.concatenate(pixels))


@pytest.fixture
def refined(tmp_path: Path) -> tuple[Scan, Structure]:
    scan = make_room_scan(tmp_path / "room")
    structure = structure_of(scan)
    structure.save(scan.path)
    return scan, structure


def read(project: Path) -> pycolmap.Reconstruction:
    return pycolmap.Reconstruction(str(project / "sparse" / "0"))


def test_features_are_where_they_were_found(
    refined: tuple[Scan, Structure], tmp_path: Path
) -> None:
    scan, structure = refined
    config = ColmapExportConfig(densify=False)
    report = export_colmap(scan, tmp_path / "project", config)
    model = read(tmp_path / "project")
    images = sorted(model.images.values(), key=lambda image: image.name)
    for index, image in enumerate(images):
        found = np.array([point.xy for point in image.points2D])
        np.testing.assert_allclose(found, structure.pixels[structure.frames == index], atol=1e-4)
    assert model.num_cameras() == 1
    assert report.measured is not None
    assert report.measured.points == model.num_points3D() == 150
    assert report.measured.observations == len(structure.rows)
    assert report.measured.mean_track_length == model.compute_mean_track_length() > 3


def test_residuals_are_those_that_were_left(
    refined: tuple[Scan, Structure], tmp_path: Path
) -> None:
    scan, _ = refined
    report = export_colmap(scan, tmp_path / "project", ColmapExportConfig(densify=False))
    model = read(tmp_path / "project")
    model.update_point_3d_errors()
    lengths = [point.track.length() for point in model.points3D.values()]
    errors = [point.error for point in model.points3D.values()]
    assert report.measured is not None
    mean = report.measured.mean_reprojection_error
    assert mean == pytest.approx(np.average(errors, weights=lengths), rel=1e-4)
    assert mean == pytest.approx(NOISE * np.sqrt(np.pi / 2), rel=0.1)  # of a 2-D Gaussian's length


def test_points_from_depth_follow_as_seeds(refined: tuple[Scan, Structure], tmp_path: Path) -> None:
    scan, structure = refined
    report = export_colmap(scan, tmp_path / "project")
    model = read(tmp_path / "project")
    assert report.measured is not None and report.measured.points == 150
    assert report.points == model.num_points3D() > 1000
    assert report.mean_reprojection_error < report.measured.mean_reprojection_error / 2
    triangulated = np.array([model.points3D[i].xyz for i in range(1, 151)])
    np.testing.assert_allclose(triangulated, structure.points)
    painted = room_colours(triangulated).astype(int)
    found = np.array([model.points3D[i].color for i in range(1, 151)])
    assert np.abs(painted - found).mean() < 4


def test_outliers_are_left_out_and_counted(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path / "room")
    good = structure_of(scan)
    pixels = good.pixels.copy()
    pixels[::10] += [30, 0]
    Structure(good.points, good.frames, good.rows, pixels).save(scan.path)
    report = export_colmap(scan, tmp_path / "project", ColmapExportConfig(densify=False))
    assert report.measured is not None
    assert report.measured.mean_reprojection_error < 1
    assert report.measured.outliers >= len(pixels[::10])
    assert report.measured.outliers + report.measured.observations == len(pixels)


def test_a_scan_that_was_not_refined_measures_nothing(tmp_path: Path) -> None:
    report = export_colmap(make_room_scan(tmp_path / "room"), tmp_path / "project")
    assert report.measured is None


@given(seed=st.integers(0, 999))
@settings(max_examples=10)
def test_a_point_is_seen_once_in_a_picture_where_it_fits_best(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    scan = make_room_scan(tmp_path_factory.mktemp("room"), size=(64, 48), network_size=32)
    once = structure_of(scan, points=40)
    rng = np.random.default_rng(seed)
    again = rng.choice(len(once.rows), 30, replace=False)
    frames = np.concatenate([once.frames, once.frames[again]])
    order = np.argsort(frames, kind="stable")
    rows = np.concatenate([once.rows, once.rows[again]])
    pixels = np.concatenate([once.pixels, once.pixels[again] + rng.normal(size=(30, 2))])
    twice = Structure(once.points, frames[order], rows[order], pixels[order])
    kept = measured_points(scan, twice, max_error=1e6, min_track_length=1).observations
    pairs = list(zip(kept.frames.tolist(), kept.points.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs) == len(once.rows)
    everything = Observations(twice.rows, twice.frames, twice.pixels)
    errors = reprojection_errors(scan, twice.points, everything)
    every = zip(twice.frames.tolist(), twice.rows.tolist(), strict=True)
    best: dict[tuple[int, int], float] = {}
    for pair, error in zip(every, errors, strict=True):
        best[pair] = min(best.get(pair, np.inf), error)
    found = reprojection_errors(scan, twice.points, kept)
    np.testing.assert_allclose(found, [best[pair] for pair in pairs])


def test_a_picture_of_doubtful_depth_only_still_sees_points(tmp_path: Path) -> None:
    def doubt(estimate: FrameEstimate) -> FrameEstimate:
        if estimate.frame.index != 4:
            return estimate
        return replace(estimate, confidence=np.full_like(estimate.confidence, 1.01))

    scan = make_room_scan(tmp_path / "room", edit=doubt)
    assert export_colmap(scan, tmp_path / "project").images_without_points == ()
