import json

import numpy as np
import pycolmap
import pytest

from mem3r_plugin.commands.main import main
from tests.commands.terminal import complaint, mem3r


def test_colmap_is_read_back_by_pycolmap(small_scan, tmp_path):
    output = tmp_path / "project"
    done = mem3r("export", "colmap", small_scan.path, output, "--min-track-length", 1)
    assert done.returncode == 0, done.stderr
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    assert done.stdout.splitlines()[0] == (
        f"{output}: {model.num_images()} images, {model.num_points3D()} points"
    )
    assert model.num_images() == len(small_scan)
    assert json.loads((output / "report.json").read_text())["points"] == model.num_points3D() > 0


def test_a_trajectory_has_a_line_for_every_frame(small_scan, tmp_path, capsys):
    output = tmp_path / "trajectory.txt"
    assert main(["export", "tum", str(small_scan.path), str(output)]) == 0
    assert capsys.readouterr().out == f"{output}: 6 poses\n"
    poses = np.loadtxt(output)
    assert poses.shape == (6, 8)
    expected = [frame.camera_to_world[:3, 3] for frame in small_scan.frames]
    np.testing.assert_allclose(poses[:, 1:4], expected, atol=1e-6)


def test_a_cloud_says_how_many_points_it_has(small_scan, tmp_path, capsys):
    output = tmp_path / "cloud.ply"
    assert main(["export", "ply", str(small_scan.path), str(output), "--max-points", "50"]) == 0
    header = output.read_bytes().split(b"end_header")[0].decode()
    count = int(header.split("element vertex ")[1].split()[0])
    assert 0 < count <= 50
    assert capsys.readouterr().out == f"{output}: {count} points\n"


def test_what_is_no_scan_is_refused(tmp_path):
    message = complaint(mem3r("export", "tum", tmp_path, tmp_path / "trajectory.txt"))
    assert f"{tmp_path} is not a scan" in message


def test_a_folder_in_use_is_left_alone(small_scan, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["export", "colmap", str(small_scan.path), str(tmp_path)]) == 1
    assert f"mem3r: error: {tmp_path} is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_format_is_refused(small_scan, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["export", "obj", str(small_scan.path), str(tmp_path)])
    assert ended.value.code == 2
