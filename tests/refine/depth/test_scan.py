from dataclasses import replace
from pathlib import Path

import numpy as np

from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.refine.depth.scan import (
    depth_transform,
    enlarge_depth,
    refine_scan_depth,
    resample_picture,
)
from mem3r_plugin.refine.depth.sequence import DepthConfig
from tests.room_scan import make_room_scan, room_depth, room_points, room_pose


def spoiled(estimate):
    """A prior whose scale wanders from frame to frame."""
    factor = np.float32(1 + 0.1 * estimate.frame.index)
    return replace(estimate, depth=estimate.depth * factor)


def test_a_scans_depth_comes_out_at_one_scale(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, frames=5, edit=spoiled)
    poses = np.stack([room_pose(i) for i in range(5)])
    points = [room_points(scan.camera, pose)[::15, ::15].reshape(-1, 3) for pose in poses]
    points[4] = np.zeros((0, 3))  # the last frame is known through its neighbours only
    results = list(
        refine_scan_depth(scan, scan.camera, poses, points, range(4), tmp_path / "depth")
    )
    assert len(results) == 5
    camera = depth_transform(scan, DepthConfig().pixels).intrinsics(scan.camera)
    for pose, result in zip(poses, results, strict=True):
        truth = room_depth(camera, pose)
        assert result.depth.shape == truth.shape
        assert np.median(np.abs(result.depth / truth - 1)) < 0.03


def test_resampling_keeps_every_colour_in_its_place() -> None:
    x, y = np.meshgrid(np.arange(90) + 0.5, np.arange(60) + 0.5)
    picture = np.stack([2 * x, 3 * y, x + y], axis=-1)
    transform = (
        ImageTransform.identity((90, 60)).resized(60, 40).cropped(5, 3, 48, 32).resized(24, 16)
    )
    made = resample_picture(np.rint(picture).astype(np.uint8), transform)
    columns, rows = np.meshgrid(np.arange(24) + 0.5, np.arange(16) + 0.5)
    source = transform.inverse.pixels(np.stack([columns, rows], axis=-1))
    expected = np.stack([2 * source[..., 0], 3 * source[..., 1], source.sum(axis=-1)], axis=-1)
    np.testing.assert_allclose(made, expected, atol=1.5)


def test_depth_maps_are_as_large_as_wanted_but_never_larger_than_the_picture(
    tmp_path: Path,
) -> None:
    scan = make_room_scan(tmp_path, frames=1)
    seen = scan.camera.width * scan.camera.height
    width, height = depth_transform(scan, seen // 4).target_size
    assert abs(width * height / (seen // 4) - 1) < 0.1
    assert width % 2 == height % 2 == 0
    largest = depth_transform(scan, 100 * seen)
    assert largest.target_size[0] <= scan.camera.width + 1
    network = scan.transform.inverse.pixels(np.zeros((1, 2)))
    np.testing.assert_allclose(largest.inverse.pixels(np.zeros((1, 2))), network, atol=1e-9)


def test_an_enlarged_depth_map_is_smooth_and_keeps_what_is_unknown() -> None:
    depth = np.tile(np.arange(1, 9, dtype=np.float32), (6, 1))
    depth[:2] = 0
    made = enlarge_depth(depth, (16, 12))
    assert (made[:4] == 0).all()
    assert (made[4:] > 0).all()
    np.testing.assert_allclose(np.diff(made[8, 1:-1]), 0.5, atol=1e-6)
