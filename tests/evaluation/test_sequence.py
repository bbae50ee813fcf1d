from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation import PosedSequence
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import relative_pose, transform_points
from tests.evaluation.room_sequence import SCALE, TRUTH_FROM_ROOM, write_room_sequence
from tests.room_scan import room_depth, room_pose

REAL = {
    "driving_kitti00_lowres": (600, False),
    "driving_kitti06_stereo51": (51, True),
    "phone_fox": (50, False),
    "photo_strecha_castle_p30": (30, False),
    "photo_strecha_fountain_p11": (11, False),
    "rgb_courthouse": (286, False),
    "rgbd_7scenes_redkitchen": (320, True),
}


def test_room_is_read_as_written(tmp_path: Path) -> None:
    write_room_sequence(tmp_path / "room")
    sequence = PosedSequence.load(tmp_path / "room")
    assert (sequence.name, len(sequence)) == ("room", 6)
    assert sequence.intrinsics == Intrinsics.centred(160.0, 200, 150)
    np.testing.assert_allclose(sequence.timestamps, np.arange(6) / 10)
    for index in range(6):
        np.testing.assert_allclose(
            sequence.camera_to_world[index], TRUTH_FROM_ROOM.poses(room_pose(index)), atol=1e-9
        )
        depth = sequence.depth(index)
        assert depth.dtype == np.float32
        expected = SCALE * room_depth(sequence.intrinsics, room_pose(index))
        np.testing.assert_allclose(depth[20:], expected[20:], atol=5.1e-4)
        assert (depth[:20, :20] == 0).all()


@pytest.mark.parametrize("name", REAL)
def test_real_sequences_are_read(name: str, shared_data: Path) -> None:
    frames, has_depth = REAL[name]
    sequence = PosedSequence.load(shared_data / name)
    assert len(sequence) == frames
    assert sequence.has_depth == has_depth
    if has_depth:
        size = (sequence.intrinsics.height, sequence.intrinsics.width)
        assert sequence.depth(frames - 1).shape == size


@pytest.mark.parametrize("name", [name for name, (_, has_depth) in REAL.items() if has_depth])
def test_real_poses_depth_and_intrinsics_belong_together(name: str, shared_data: Path) -> None:
    """Depth of one frame, taken to the next by the poses, is the depth found there."""
    sequence = PosedSequence.load(shared_data / name)
    camera = sequence.intrinsics
    first, second = 10, 13
    pixels = camera.pixel_centres().reshape(-1, 2)
    depth = sequence.depth(first).reshape(-1)
    pose = relative_pose(sequence.camera_to_world[second], sequence.camera_to_world[first])
    points = transform_points(pose, camera.unproject(pixels[depth > 0], depth[depth > 0]))
    landed = camera.project(points)
    inside = camera.contains(landed) & (points[:, 2] > 0)
    columns, rows = np.floor(landed[inside]).astype(int).T
    found = sequence.depth(second)[rows, columns]
    error = np.abs(found - points[inside, 2])[found > 0] / found[found > 0]
    assert np.median(error) < 0.03


def test_missing_sequence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"meta\.json"):
        PosedSequence.load(tmp_path)


def test_pictures_and_poses_must_match(tmp_path: Path) -> None:
    write_room_sequence(tmp_path)
    (tmp_path / "rgb/000003.png").unlink()
    with pytest.raises(SourceError, match="5 pictures but 6 poses"):
        PosedSequence.load(tmp_path)


def test_meta_without_a_value(tmp_path: Path) -> None:
    write_room_sequence(tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    del meta["fx"]
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(SourceError, match=r"meta\.json.*fx"):
        PosedSequence.load(tmp_path)


def test_no_depth(tmp_path: Path) -> None:
    write_room_sequence(tmp_path, depth=False)
    with pytest.raises(SourceError, match="no depth"):
        PosedSequence.load(tmp_path).depth(0)


def test_lost_depth_map(tmp_path: Path) -> None:
    write_room_sequence(tmp_path)
    (tmp_path / "depth/000002.png").unlink()
    with pytest.raises(SourceError, match=r"000002\.png"):
        PosedSequence.load(tmp_path).depth(2)
