from dataclasses import replace
from pathlib import Path

import numpy as np

from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.refine.scan_depth import refine_scan_depth, resample_picture
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
    for pose, result in zip(poses, results, strict=True):
        truth = room_depth(scan.network_camera, pose)
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
