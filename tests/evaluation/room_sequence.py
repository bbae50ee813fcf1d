"""The room of `tests.room_scan` as a sequence with truth, in another world and unit of length."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.pose import quaternion_from_rotation, rotation_from_quaternion
from tests.room_scan import room_colours, room_depth, room_points, room_pose, store_picture

SCALE = 2.5
TRUTH_FROM_ROOM = Similarity(
    SCALE, rotation_from_quaternion([0.8, 0.1, -0.5, 0.3]), np.array([3.0, -7.0, 1.0])
)
DEPTH_SCALE = 1000.0


def write_room_sequence(
    directory: Path,
    frames: int = 6,
    size: tuple[int, int] = (200, 150),
    focal: float = 160.0,
    depth: bool = True,
) -> None:
    """Write the layout that `PosedSequence` reads; one corner of every depth map is unknown."""
    camera = Intrinsics.centred(focal, *size)
    (directory / "rgb").mkdir(parents=True)
    (directory / "depth").mkdir()
    lines = []
    for index in range(frames):
        pose = room_pose(index)
        picture = room_colours(room_points(camera, pose))
        store_picture(directory / f"rgb/{index:06d}.png", picture)
        stored = np.rint(SCALE * DEPTH_SCALE * room_depth(camera, pose)).astype(np.uint16)
        stored[:20, :20] = 0
        cv2.imwrite(str(directory / f"depth/{index:06d}.png"), stored)
        truth = TRUTH_FROM_ROOM.poses(pose)
        w, x, y, z = quaternion_from_rotation(truth[:3, :3])
        values = [index / 10, *truth[:3, 3], x, y, z, w]
        lines.append(" ".join(f"{value:.12g}" for value in values))
    (directory / "poses.txt").write_text("\n".join(lines))
    meta = {
        "width": size[0],
        "height": size[1],
        "fx": focal,
        "fy": focal,
        "cx": size[0] / 2 - 0.5,
        "cy": size[1] / 2 - 0.5,
        "depth_scale": DEPTH_SCALE if depth else None,
    }
    (directory / "meta.json").write_text(json.dumps(meta))
