"""`mem3r-data` beside nerfstudio's own dataparsers, and the conformance gate that asks them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nerfstudio", reason="make test-nerfstudio runs these in their own environment")

from nerfstudio.configs.dataparser_configs import all_dataparsers
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.depth_dataset import DepthDataset

from mem3r_check import check_project
from mem3r_nerfstudio.dataparser import Mem3RDataParserConfig
from mem3r_nerfstudio.process import PROJECT
from mem3r_plugin.errors import SourceError
from mem3r_plugin.geometry.pose import transform_points
from mem3r_plugin.scan import Scan
from tests.integrations.check import damage
from tests.room_scan import make_room_scan

SCANS: dict[str, dict[str, Any]] = {
    "images": {},
    "turned by EXIF": {"orientation": 6, "suffix": ".jpg"},
    "video": {"kind": "video"},
    "cropped": {"size": (417, 129)},
    "zoom": {"zoom": 1.1},
}


@pytest.fixture(params=SCANS, scope="module")
def scan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("scan"), frames=9, **SCANS[request.param])


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"))


def read(config: Any, split: str = "train") -> DataparserOutputs:
    return config.setup().get_dataparser_outputs(split)


def project_of(scan: Scan) -> Path:
    """Where the dataparser puts the project of a scan."""
    return scan.path.with_name("scan.mem3r") / PROJECT


# -- the same as stock nerfstudio ----------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["up", "vertical", "pca", "none"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_three_dataparsers_agree(scan: Scan, orientation: str, split: str) -> None:
    options: dict[str, Any] = {
        "orientation_method": orientation,
        "eval_mode": "interval",
        "eval_interval": 4,
    }
    ours = read(Mem3RDataParserConfig(data=scan.path, **options), split)
    project = project_of(scan)
    theirs = read(NerfstudioDataParserConfig(data=project, load_3D_points=True, **options), split)
    colmap = read(
        ColmapDataParserConfig(data=project, depths_path=Path("depths"), **options), split
    )
    assert len(ours.image_filenames) == (6 if split == "train" else 3)
    for other in (theirs, colmap):
        assert [f.name for f in other.image_filenames] == [f.name for f in ours.image_filenames]
        assert other.dataparser_scale == pytest.approx(ours.dataparser_scale, abs=1e-6)
        for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height"):
            expected = getattr(ours.cameras, name)
            torch.testing.assert_close(getattr(other.cameras, name), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            other.dataparser_transform, ours.dataparser_transform, rtol=0, atol=1e-6
        )
        for name, tolerance in (("points3D_xyz", 2e-6), ("points3D_rgb", 0)):
            torch.testing.assert_close(
                other.metadata[name], ours.metadata[name], rtol=0, atol=tolerance
            )
        assert [f.name for f in other.metadata["depth_filenames"]] == [
            f.name for f in ours.metadata["depth_filenames"]
        ]


def test_cameras_are_those_of_the_scan(scan: Scan) -> None:
    """Through nerfstudio's own rays: a pixel's ray hits what the scan's depth says."""
    outputs = read(Mem3RDataParserConfig(data=scan.path, eval_mode="all"))
    to_scan = np.linalg.inv(np.vstack([outputs.dataparser_transform.numpy(), [0, 0, 0, 1]]))
    for index in (0, 4, 8):
        camera = scan.frame_camera(index)
        rays = outputs.cameras.generate_rays(camera_indices=index)
        depth = torch.from_numpy(scan.original_depth(index).astype(np.float64))
        along = depth[..., None] * outputs.dataparser_scale * rays.metadata["directions_norm"]
        points = (
            rays.origins + rays.directions * along
        ).double().numpy() / outputs.dataparser_scale
        expected = transform_points(
            scan.frames[index].camera_to_world, camera.unproject_depth(depth.numpy())
        )
        known = depth.numpy() > 0
        np.testing.assert_allclose(
            transform_points(to_scan, points)[known], expected[known], atol=2e-5
        )


def test_depth_follows_the_scale_of_the_poses(scan: Scan) -> None:
    outputs = read(Mem3RDataParserConfig(data=scan.path, eval_mode="all"))
    dataset = DepthDataset(outputs)
    for index in (0, 8):
        served = dataset.get_data(index)["depth_image"][..., 0].numpy()
        expected = scan.original_depth(index) * outputs.dataparser_scale
        np.testing.assert_allclose(served, expected, rtol=1e-5)


# -- what is only ours ---------------------------------------------------------------------------


def test_it_is_registered() -> None:
    assert isinstance(all_dataparsers["mem3r-data"], Mem3RDataParserConfig)


def test_confidence_and_scale_come_along(room: Scan) -> None:
    outputs = read(Mem3RDataParserConfig(data=room.path, eval_mode="interval", eval_interval=3))
    files = outputs.metadata["confidence_filenames"]
    assert [file.stem for file in files] == [file.stem for file in outputs.image_filenames]
    assert all(file.exists() for file in files)
    assert outputs.metadata["metres_per_unit"] is None


def test_the_project_is_made_once_and_again_when_the_scan_has_changed(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    read(Mem3RDataParserConfig(data=scan.path))
    report = project_of(scan) / "report.json"
    first = report.stat().st_mtime_ns
    read(Mem3RDataParserConfig(data=scan.path))
    assert report.stat().st_mtime_ns == first
    header = json.loads((scan.path / "scan.json").read_text())
    header["scale"] = {"metres_per_unit": 2.0, "relative_uncertainty": 0.1, "source": "a ruler"}
    (scan.path / "scan.json").write_text(json.dumps(header))
    assert read(Mem3RDataParserConfig(data=scan.path)).metadata["metres_per_unit"] == 2.0


def test_a_project_can_be_kept_elsewhere_and_read_by_itself(room: Scan, tmp_path: Path) -> None:
    outputs = read(Mem3RDataParserConfig(data=room.path, project=tmp_path / "kept"))
    again = read(Mem3RDataParserConfig(data=tmp_path / "kept" / PROJECT))
    assert again.image_filenames == outputs.image_filenames


@pytest.mark.parametrize("kind", ["video", "images"])
def test_what_is_no_scan_yet_is_reconstructed_once(kind: Any, tmp_path: Path) -> None:
    make_room_scan(tmp_path, kind=kind)
    data = tmp_path / "source/walk.mp4" if kind == "video" else tmp_path / "source"
    outputs = read(Mem3RDataParserConfig(data=data, eval_mode="all"))
    assert len(outputs.image_filenames) == 6
    folder = data.with_name(f"{data.name}.mem3r")
    assert all(folder in file.parents for file in outputs.image_filenames)
    assert len(Scan.open(folder / "scan")) == 6
    written = {file: file.stat().st_mtime_ns for file in folder.rglob("*.json*")}
    again = read(Mem3RDataParserConfig(data=data, eval_mode="all"))
    assert torch.equal(again.cameras.camera_to_worlds, outputs.cameras.camera_to_worlds)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.json*")} == written


def test_what_does_not_exist_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist; name a scan, a video or a folder"):
        read(Mem3RDataParserConfig(data=tmp_path / "walk.mp4"))


def test_checkpoints_with_numpy_scalars_load(tmp_path: Path) -> None:
    torch.save({"step": np.float64(3), "scale": np.float32(2)}, tmp_path / "step.ckpt")
    code = (
        "import sys, torch, mem3r_nerfstudio.dataparser\n"
        "print(torch.load(sys.argv[1])['step'] + torch.load(sys.argv[1])['scale'])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "step.ckpt")]
    assert subprocess.check_output(command, text=True).split()[-1] == "5.0"


# -- the conformance gate asks nerfstudio --------------------------------------------------------

PARSERS = ("nerfstudio-data", "nerfstudio colmap")


def test_every_export_passes_the_gate(scan: Scan) -> None:
    read(Mem3RDataParserConfig(data=scan.path))
    report = check_project(project_of(scan))
    assert report.problems == ()
    assert {r.reader for r in report.readers if r.verdicts} >= set(PARSERS)


DAMAGE: dict[Callable[[Path], None], str] = {
    damage.ns_flip_axes: "camera axes are flipped",
    damage.ns_invert_poses: "poses are inverted",
    damage.ns_lose_half_a_pixel: "half a pixel is lost",
    damage.ns_focal_of_network_size: "pictures of another size",
    damage.ns_shuffle_names: "names are shuffled",
    damage.ns_forget_the_world: "different coordinates",
    damage.ns_seeds_in_the_world_of_the_scan: "seed points are in other coordinates",
    damage.ns_depth_in_another_unit: "its unit is wrong",
    damage.ns_truncate: "nerfstudio-data: ",
    damage.ns_mask_some: "Different number of image and mask filenames",
    damage.lose_a_picture: "is missing",
}


@pytest.mark.parametrize("spoil", DAMAGE, ids=lambda spoil: spoil.__name__)
def test_nerfstudio_sees_the_damage(
    spoil: Callable[[Path], None], room: Scan, tmp_path: Path
) -> None:
    read(Mem3RDataParserConfig(data=room.path))
    project = shutil.copytree(project_of(room), tmp_path / "project")
    spoil(project)
    readers = {reader.reader: reader for reader in check_project(project).readers}
    assert DAMAGE[spoil] in " ".join(
        f"nerfstudio-data: {p}" for p in readers["nerfstudio-data"].problems
    )
