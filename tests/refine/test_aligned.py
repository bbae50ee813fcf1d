from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mem3r_plugin.refine import refine as refinement
from mem3r_plugin.refine.aligned import aligned_estimates
from mem3r_plugin.refine.estimates import Estimates
from mem3r_plugin.refine.posed import PosedFrames, Support
from mem3r_plugin.refine.poses import PoseReport
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.refine.test_score import room_tracks
from tests.room_scan import make_room_scan, room_depth, room_points, room_pose

UNIT = 0.4
"""Length of the scan's unit in the refined one."""


@pytest.fixture
def room(tmp_path: Path) -> Scan:
    return make_room_scan(tmp_path)


def posed_room(scan: Scan) -> PosedFrames:
    """True poses and points in a smaller unit; only even frames see points."""
    tracks = room_tracks(scan, points=200)
    rng = np.random.default_rng(0)
    world = room_points(scan.camera, room_pose(3)).reshape(-1, 3)
    world = world[rng.choice(len(world), 200, replace=False)]
    poses = np.stack([room_pose(index) for index in range(len(scan))])
    poses[:, :3, 3] *= UNIT
    even = tracks.frames % 2 == 0
    sightings = tracks.frames[even], tracks.rows[even], tracks.pixels[even]
    support: list[Support] = ["mapped"] * len(scan)
    return PosedFrames(scan.camera, poses, tuple(support), UNIT * world, *sightings)


def test_depth_comes_to_the_unit_of_the_points_in_every_frame(room: Scan) -> None:
    posed = posed_room(room)
    results = list(aligned_estimates(room, posed))
    assert len(results) == len(room)
    for index, (estimate, residual) in enumerate(results):
        true = UNIT * room_depth(room.network_camera, room_pose(index))
        # Where a point lies within a pixel of the depth map is not known, hence the tolerance.
        assert np.median(np.abs(estimate.depth / true - 1)) < 0.02
        assert residual is not None and residual < 0.02
        np.testing.assert_array_equal(estimate.camera_to_world, posed.camera_to_world[index])
        np.testing.assert_array_equal(estimate.confidence, room.confidence(index))


def shaken(estimate: FrameEstimate) -> FrameEstimate:
    """A pose that is off by a few centimetres; the first is the world."""
    pose = estimate.camera_to_world.copy()
    rng = np.random.default_rng(estimate.frame.index)
    pose[:3, 3] += 0.05 * rng.normal(size=3) * (estimate.frame.index > 0)
    return replace(estimate, camera_to_world=pose)


def test_it_is_kept_where_depth_from_neighbours_disagrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = make_room_scan(tmp_path / "shaken", edit=shaken)
    posed = posed_room(scan)
    fields = dict.fromkeys(PoseReport.__dataclass_fields__, 0)
    report = PoseReport(**{**fields, "warnings": ()})  # type: ignore[arg-type]

    def found(*_: object) -> tuple[PosedFrames, PoseReport]:
        (tmp_path / "refined" / "refine").mkdir()
        return posed, report

    def spoilt(*_: object) -> Estimates:
        for estimate, residual in aligned_estimates(scan, posed):
            factor = np.float32(1 + estimate.frame.index % 2)
            yield replace(estimate, depth=factor * estimate.depth), residual

    monkeypatch.setattr(refinement, "refine_poses", found)
    monkeypatch.setattr(refinement, "refined_estimates", spoilt)
    refined = refinement.refine(refinement.RefineConfig(scan.path, tmp_path / "refined"))
    kept = refinement.RefineReport.load(refined.path)
    assert kept.result == "aligned" and "network's depth" in kept.reason
    assert kept.score.depth_disagreement is not None and kept.score.depth_disagreement < 0.05
    np.testing.assert_array_equal(refined.frames[3].camera_to_world, posed.camera_to_world[3])
    assert refined.structure() is not None
    true = UNIT * room_depth(refined.network_camera, room_pose(3))
    assert np.median(np.abs(refined.depth(3) / true - 1)) < 0.02
