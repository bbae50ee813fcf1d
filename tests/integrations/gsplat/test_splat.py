"""The whole job; gsplat's rasteriser needs CUDA, so a slow one in torch stands in where named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mem3r_gsplat import (
    MapperConfig,
    OnlineMapper,
    OptimiserConfig,
    SeedConfig,
    SplatConfig,
    seed_gaussians,
    splat,
)
from mem3r_gsplat.fly_through import smooth_path
from mem3r_gsplat.optimise import SplatOptimiser, psnr
from mem3r_gsplat.views import ScanViews, scene_scale
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.exports import PointCloudConfig
from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.estimate import Frame
from tests.integrations.gsplat.test_ply import read_ply
from tests.integrations.gsplat.torch_rasteriser import rasterise
from tests.room_scan import make_room_scan, room_estimate, room_pose

IN_TORCH = (rasterise, torch.device("cpu"))
SEEDS = SeedConfig(points=PointCloudConfig(max_points=250), sh_degree=0)
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


@no_cuda
def test_without_cuda_one_line_before_any_work(
    room: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["splat", str(room.path), str(tmp_path / "out.ply")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs a CUDA GPU" in line
    assert not list(tmp_path.iterdir())


@no_cuda
def test_on_line_mapper_without_cuda_refuses_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a CUDA GPU"):
        OnlineMapper(MapperConfig(tmp_path / "map.ply"))


@no_cuda
def test_the_sink_without_cuda_is_one_line_before_any_work(
    room: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(room.path.parent / "source")
    assert main(["run", source, "--output", str(tmp_path / "scan"), "--sink", "splat"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs a CUDA GPU" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["splat.splat", "splat"])
def test_output_must_be_a_ply_file(room: Scan, name: str) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.ply"):
        SplatConfig(room.path, Path(name))


def test_seeds_project_where_the_views_see_them(room: Scan, tmp_path: Path) -> None:
    """The cameras handed to gsplat are right: seeds land on pixels of their colour and depth."""
    view = ScanViews(room, tmp_path)[3]
    means = seed_gaussians(room).means
    local = means @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    pixels = (local / local[:, 2:]) @ view.intrinsics.T
    width, height = view.size
    inside = (local[:, 2] > 0) & (pixels[:, 0] >= 0) & (pixels[:, 0] < width)
    inside &= (pixels[:, 1] >= 0) & (pixels[:, 1] < height)
    column, row = pixels[inside, :2].long().T
    depth = view.depth[row, column]
    relative = (local[inside, 2][depth > 0] / depth[depth > 0] - 1).abs()
    assert int(inside.sum()) > 100
    assert float(relative.median()) < 0.01


def test_fitting_with_torch_rasteriser_in_place_of_gsplat(room: Scan, tmp_path: Path) -> None:
    config = OptimiserConfig(steps=40, densify_from=10)
    optimiser = SplatOptimiser(
        seed_gaussians(room, SEEDS), config, rasterise, scene_scale(room), torch.device("cpu")
    )
    view = ScanViews(room, tmp_path)[2]
    before = psnr(optimiser.render(view).colour, view.image)
    losses = [optimiser.step(view) for _ in range(config.steps)]
    after = optimiser.render(view)
    assert losses[-1] < 0.6 * losses[0]
    assert psnr(after.colour, view.image) > before + 3
    seen = (after.opacity > 0.5) & (view.depth > 0)
    assert float((after.depth / view.depth - 1)[seen].abs().median()) < 0.05


def test_extending_with_torch_rasteriser_in_place_of_gsplat(room: Scan, tmp_path: Path) -> None:
    seeds = seed_gaussians(room, SEEDS)
    optimiser = SplatOptimiser(
        seeds, OptimiserConfig(steps=20), rasterise, scene_scale(room), torch.device("cpu")
    )
    view = ScanViews(room, tmp_path)[0]
    optimiser.step(view)
    optimiser.extend(seeds)
    optimiser.step(view)
    assert len(optimiser.gaussians) == 2 * len(seeds)


def test_whole_job_with_torch_rasteriser_in_place_of_gsplat(room: Scan, tmp_path: Path) -> None:
    output = tmp_path / "out.ply"
    config = SplatConfig(
        room.path,
        output,
        SEEDS,
        OptimiserConfig(steps=12, densify_from=100),
        hold_out=3,
        film_seconds=0.2,
    )
    heard: list[int] = []
    report = splat(config, lambda _stage, done, _total: heard.append(done), backend=IN_TORCH)
    assert heard == list(range(1, 13))
    assert report.held_out == 2
    assert report.psnr_held_out is not None
    assert len(read_ply(output)) == report.gaussians > 100
    assert json.loads(output.with_suffix(".json").read_text())["steps"] == 12
    film = cv2.VideoCapture(str(output.with_suffix(".mp4")))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.mp4", "out.ply"]


def test_videos_are_decoded_once(tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path, size=(64, 48), network_size=64, kind="video")
    cache = tmp_path / "cache"
    cache.mkdir()
    views = ScanViews(scan, cache)
    assert len(list(cache.iterdir())) == len(scan)
    for index in (5, 0):
        difference = views[index].image * 255 - torch.from_numpy(scan.image(index)).float()
        assert float(difference.abs().mean()) < 3


def test_path_goes_through_ends_and_is_smooth() -> None:
    poses = np.stack([room_pose(index) for index in range(40)])
    path = smooth_path(poses, 90)
    assert path.shape == (90, 4, 4)
    assert np.allclose(path[0], poses[0])
    assert np.allclose(path[-1], poses[-1])
    assert np.allclose(path[:, :3, :3] @ path[:, :3, :3].mT, np.eye(3))
    steps = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    assert steps.max() < 1.1 * steps.min()
    assert np.allclose(invert_pose(path) @ path, np.eye(4), atol=1e-9)


def test_a_single_pose_is_a_path_too() -> None:
    assert smooth_path(np.eye(4)[None], 3).shape == (3, 4, 4)


def test_on_line_mapper_with_torch_rasteriser_in_place_of_gsplat(
    room: Scan, tmp_path: Path
) -> None:
    config = MapperConfig(tmp_path / "map.ply", every=1, steps=3, pixel_stride=6, recent=2)
    mapper = OnlineMapper(config, backend=IN_TORCH)
    mapper.open()
    counts = []
    for index in range(len(room)):
        frame = Frame(index, str(index), index / 10, room.image(index))
        mapper.write(room_estimate(frame, room.camera, room.transform))
        assert mapper.gaussians is not None
        counts.append(len(mapper.gaussians))
    mapper.close(complete=True)
    assert counts[0] > 20
    assert counts[-1] > counts[0], "what comes into view is added"
    assert counts[-1] < 0.5 * len(counts) * counts[0], "what is there already is not"
    assert len(read_ply(tmp_path / "map.ply")) == counts[-1]


def test_on_line_mapper_waits_for_depth_with_torch_rasteriser(room: Scan, tmp_path: Path) -> None:
    mapper = OnlineMapper(MapperConfig(tmp_path / "map.ply"), backend=IN_TORCH)
    blank: Callable[[np.ndarray], np.ndarray] = np.zeros_like
    estimate = room_estimate(Frame(0, "0", 0.0, room.image(0)), room.camera, room.transform)
    mapper.write(replace(estimate, depth=blank(estimate.depth)))
    assert mapper.gaussians is None
    mapper.close(complete=False)
    assert not (tmp_path / "map.ply").exists()


@pytest.mark.gpu
def test_whole_job_with_gsplat(room: Scan, tmp_path: Path) -> None:
    config = SplatConfig(
        room.path, tmp_path / "out.ply", optimiser=OptimiserConfig(steps=500), hold_out=3
    )
    report = splat(config)
    assert report.psnr_held_out is not None
    assert report.psnr_held_out > 25
