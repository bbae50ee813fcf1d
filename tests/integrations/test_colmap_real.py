"""Real sequences through a real, though untrained, network into a project that pycolmap reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_plugin.stream.run import run
from tests.stream.small_model import SmallModel

SEQUENCES = (
    "driving_kitti00_lowres",
    "driving_kitti06_stereo51",
    "phone_fox",
    "photo_strecha_castle_p30",
    "photo_strecha_fountain_p11",
    "rgb_courthouse",
    "rgbd_7scenes_redkitchen",
)


def check_run_and_export(
    source: Path, model: SmallModel, output: Path, frames: int | None = None
) -> None:
    scan = run(model.config(source, output / "scan", max_frames=frames), silent=True)
    # Depth of an untrained network agrees between few pictures or none.
    config = ColmapExportConfig(min_track_length=1)
    report = export_colmap(scan, output / "project", config)
    stored = pycolmap.Reconstruction(str(output / "project/sparse/0"))
    assert stored.num_reg_images() == report.images == len(scan)
    assert stored.num_points3D() == report.points > 0
    assert stored.compute_num_observations() == report.observations
    camera = stored.cameras[1]
    for index, image_id in enumerate(sorted(stored.images)):
        image = stored.images[image_id]
        with Image.open(output / "project/images" / image.name) as picture:
            assert picture.size == (camera.width, camera.height)
        recovered = np.linalg.inv(np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]))
        np.testing.assert_allclose(recovered, scan.frames[index].camera_to_world, atol=1e-9)


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_first_frames(
    name: str, shared_data: Path, small_model: SmallModel, tmp_path: Path
) -> None:
    check_run_and_export(shared_data / name / "rgb", small_model, tmp_path, frames=6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_to_the_end(name: str, shared_data: Path, small_model: SmallModel, tmp_path: Path) -> None:
    check_run_and_export(shared_data / name / "rgb", small_model, tmp_path)
