"""Every real sequence goes through `mem3r run` and `mem3r export colmap` to the end."""

import pycolmap
import pytest
from PIL import Image

from mem3r_plugin.commands.main import main
from mem3r_plugin.scan import Scan

SEQUENCES = (
    "driving_kitti00_lowres",
    "driving_kitti06_stereo51",
    "phone_fox",
    "photo_strecha_castle_p30",
    "photo_strecha_fountain_p11",
    "rgb_courthouse",
    "rgbd_7scenes_redkitchen",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_every_frame_becomes_a_posed_image(small_model, shared_data, tmp_path, name):
    source, scan_path, project = shared_data / name / "rgb", tmp_path / "scan", tmp_path / "project"
    model = ["--model", small_model.preset, "--weights", small_model.weights]
    assert main(["run", str(source), "--output", str(scan_path), *model]) == 0
    assert main(["export", "colmap", str(scan_path), str(project)]) == 0
    pictures = sorted(source.iterdir())
    scan = Scan.open(scan_path)
    assert scan.complete
    assert [frame.name for frame in scan.frames] == [picture.name for picture in pictures]
    model_read = pycolmap.Reconstruction(project / "sparse" / "0")
    assert model_read.num_reg_images() == len(pictures)
    (camera,) = model_read.cameras.values()
    with Image.open(pictures[0]) as first:
        assert (camera.width, camera.height) == first.size
