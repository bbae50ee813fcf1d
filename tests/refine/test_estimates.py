from pathlib import Path

import numpy as np

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.depth.scan import depth_transform
from mem3r_plugin.refine.depth.sequence import DepthConfig
from mem3r_plugin.refine.estimates import refined_estimates
from mem3r_plugin.refine.posed import PosedFrames
from tests.room_scan import make_room_scan, room_depth, room_points, room_pose

KEYFRAMES = (0, 2, 4)
FRAMES = 6


def posed_room(camera: Intrinsics) -> PosedFrames:
    """Six frames in the room; three of them see points of a map, a tracked one sees a few as well."""
    points, frames = [], []
    for index in (*KEYFRAMES, 5):
        step = 20 if index in KEYFRAMES else 60
        points.append(room_points(camera, room_pose(index))[::step, ::step].reshape(-1, 3))
        frames += [index] * len(points[-1])
    return PosedFrames(
        camera,
        np.stack([room_pose(index) for index in range(FRAMES)]),
        tuple("mapped" if index in KEYFRAMES else "tracked" for index in range(FRAMES)),
        np.concatenate(points),
        np.array(frames),
        np.arange(len(frames)),
        np.zeros((len(frames), 2)),
    )


def test_every_frame_comes_out_at_its_pose_on_the_finer_grid(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path / "room", frames=FRAMES)
    posed = posed_room(scan.camera)
    config = DepthConfig(pixels=5000)
    estimates = [each for each, _ in refined_estimates(scan, posed, config, tmp_path / "work")]
    transform = depth_transform(scan, 5000)
    for index, estimate in enumerate(estimates):
        assert estimate.frame.index == index
        np.testing.assert_array_equal(estimate.camera_to_world, posed.camera_to_world[index])
        assert estimate.transform == transform
        assert estimate.intrinsics == transform.intrinsics(scan.camera)
        truth = room_depth(estimate.intrinsics, room_pose(index))
        assert np.median(np.abs(estimate.depth / truth - 1)) < 0.03


def test_only_mapped_frames_are_matched(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path / "room", frames=FRAMES)
    work = tmp_path / "work"
    told = []
    for _ in refined_estimates(
        scan, posed_room(scan.camera), DepthConfig(pixels=5000), work, lambda *s: told.append(s)
    ):
        pass
    assert ("matching keyframes", 0, len(KEYFRAMES)) in told
    assert {int(file.stem) for file in (work / "depth").glob("*.npy")} <= set(KEYFRAMES)
