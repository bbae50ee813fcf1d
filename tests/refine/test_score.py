from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.refine.score import (
    FrameScore,
    Tracks,
    is_worse,
    reprojection_errors,
    score_scan,
    weakness_warnings,
)
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.room_scan import make_room_scan, room_points, room_pose

FRAMES = 8


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"), frames=FRAMES)


def room_tracks(scan: Scan, noise: float = 0.0, points: int = 80) -> Tracks:
    """Points on the walls that the fourth camera sees, where every camera sees them."""
    rng = np.random.default_rng(0)
    world = room_points(scan.camera, room_pose(3)).reshape(-1, 3)
    world = world[rng.choice(len(world), points, replace=False)]
    frames, rows, pixels = [], [], []
    for index in range(len(scan)):
        local = transform_points(invert_pose(room_pose(index)), world)
        seen = scan.camera.project(local)
        inside = np.flatnonzero(scan.camera.contains(seen) & (local[:, 2] > 0))
        frames.append(np.full(len(inside), index))
        rows.append(inside)
        pixels.append(seen[inside] + noise * rng.normal(size=(len(inside), 2)))
    return Tracks(np.concatenate(frames), np.concatenate(rows), np.concatenate(pixels))


def moved(scan: Scan, amount: float) -> Scan:
    """The same scan with every pose of the second half shaken."""
    rng = np.random.default_rng(1)
    frames = []
    for frame in scan.frames:
        pose = frame.camera_to_world.copy()
        if frame.index >= FRAMES // 2:
            pose[:3, 3] += amount * rng.normal(size=3)
        frames.append(replace(frame, camera_to_world=pose))
    other = Scan.open(scan.path)
    other.frames = tuple(frames)
    return other


def test_a_perfect_scan_agrees_with_itself(room: Scan) -> None:
    score = score_scan(room, room_tracks(room))
    assert score.reprojection_error is not None and score.reprojection_error < 1e-6
    assert score.depth_disagreement is not None and score.depth_disagreement < 0.01
    assert score.track_length is not None and 4 < score.track_length <= FRAMES
    assert score.loop_residual is None
    assert score.warnings == ()
    assert [frame.name for frame in score.frames] == [frame.name for frame in room.frames]
    assert score.frames[3].points == 80


def test_noisy_sightings_cost_their_noise(room: Scan) -> None:
    errors = reprojection_errors(room, room_tracks(room, noise=0.5))
    # The median length of a 2-D Gaussian is 1.18 of its deviation; the fit takes a part of it.
    assert 0.8 * 0.5 < np.median(errors) < 1.2 * 0.5


def test_shaken_poses_are_worse_and_named(room: Scan) -> None:
    tracks = room_tracks(room)
    good, bad = score_scan(room, tracks), score_scan(moved(room, 0.2), tracks)
    assert bad.reprojection_error > 1 > good.reprojection_error  # type: ignore[operator]
    assert bad.depth_disagreement > 5 * good.depth_disagreement  # type: ignore[operator]
    assert is_worse(bad, good) and not is_worse(good, bad)
    assert "fast turns" in " ".join(bad.warnings)


def test_without_tracks_depth_decides(tmp_path: Path, room: Scan) -> None:
    def spoil(estimate: FrameEstimate) -> FrameEstimate:
        return replace(estimate, depth=estimate.depth * (1.3 if estimate.frame.index % 2 else 1))

    bad = score_scan(make_room_scan(tmp_path, frames=FRAMES, edit=spoil))
    good = score_scan(room)
    assert good.reprojection_error is None and good.track_length is None
    assert bad.depth_disagreement is not None and bad.depth_disagreement > 0.15
    assert is_worse(bad, good) and not is_worse(good, bad)
    (warning,) = bad.warnings
    assert warning.startswith(f"frames 000.png to 007.png ({FRAMES}) are weak: depth differs")


def test_a_stretch_without_points_is_named(room: Scan) -> None:
    tracks = room_tracks(room)
    kept = (tracks.frames < 2) | (tracks.frames > 5)
    tracks = Tracks(tracks.frames[kept], tracks.rows[kept], tracks.pixels[kept])
    (warning,) = score_scan(room, tracks).warnings
    assert warning.startswith("frames 002.png to 005.png (4) are weak: hardly any point")


def test_stretches_of_one_weakness_share_a_warning() -> None:
    frames = tuple(
        FrameScore(f"{index:03d}.png", 0.01, 0.5, 0 if index % 8 < 3 + index // 50 else 99, 3.0)
        for index in range(64)
    )
    (warning,) = weakness_warnings(frames, tracked=True)
    assert warning.count(" to ") == 5
    assert "056.png to 059.png (4)" in warning
    assert " and 3 shorter stretches are weak: hardly any point" in warning


def test_a_camera_that_does_not_move_is_scored(room: Scan) -> None:
    still = Scan.open(room.path)
    still.frames = tuple(replace(frame, camera_to_world=np.eye(4)) for frame in room.frames)
    errors = reprojection_errors(still, room_tracks(room))
    assert np.isfinite(errors).all()
    assert np.median(errors) > 5


def test_points_seen_again_after_long_close_a_loop(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, frames=40, size=(64, 48), network_size=32, focal=30.0)
    scan.frames = tuple(
        replace(frame, camera_to_world=room_pose(frame.index % 2)) for frame in scan.frames
    )
    tracks = room_tracks(scan)
    first = tracks.frames < 2
    near = Tracks(tracks.frames[first], tracks.rows[first], tracks.pixels[first])
    assert score_scan(scan, near).loop_residual is None
    loops = replace(near, frames=np.where(near.frames == 1, 39, near.frames))
    residual = score_scan(scan, loops).loop_residual
    assert residual is not None and residual < 1e-6
