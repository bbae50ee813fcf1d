"""Stock nerfstudio trains on an exported project by either of its dataparsers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nerfstudio", reason="make test-nerfstudio runs these in their own environment")

from nerfstudio.data.datamanagers.base_datamanager import (
    VanillaDataManager,
    VanillaDataManagerConfig,
)
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.depth_dataset import DepthDataset
from nerfstudio.models.depth_nerfacto import DepthNerfactoModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

from mem3r_nerfstudio import NerfstudioExportConfig, export_nerfstudio
from mem3r_nerfstudio.lpips import lpips_where_available
from mem3r_plugin.exports import PointCloudConfig
from tests.room_scan import make_room_scan

STEPS = 30
PARSERS: dict[str, Callable[[Path], Any]] = {
    "nerfstudio-data": lambda project: NerfstudioDataParserConfig(data=project),
    "colmap": lambda project: ColmapDataParserConfig(data=project, depths_path=Path("depths")),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")
    scan = make_room_scan(folder, frames=10, size=(64, 48), network_size=64, focal=50.0)
    config = NerfstudioExportConfig(PointCloudConfig(max_points=500))
    export_nerfstudio(scan, folder / "project", config)
    return folder / "project"


@pytest.mark.parametrize("parser", PARSERS)
def test_depth_nerfacto_trains(parser: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    torch.manual_seed(0)
    config = VanillaPipelineConfig(
        datamanager=VanillaDataManagerConfig(
            _target=VanillaDataManager[DepthDataset],
            dataparser=PARSERS[parser](project),
            train_num_rays_per_batch=256,
        ),
        model=DepthNerfactoModelConfig(
            num_nerf_samples_per_ray=16,
            num_proposal_samples_per_ray=(32, 16),
            log2_hashmap_size=12,
            num_levels=6,
            max_res=64,
            hidden_dim=32,
            hidden_dim_color=32,
            implementation="torch",
        ),
    )
    with lpips_where_available():  # no way to the network, see there
        pipeline = config.setup(device="cpu", test_mode="val")
    optimiser = torch.optim.Adam(pipeline.model.parameters(), lr=1e-2)
    history = []
    for step in range(STEPS):
        _, losses, _ = pipeline.get_train_loss_dict(step)
        total = sum(losses.values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        history.append({name: float(value) for name, value in losses.items()})
    first, last = (sum(h["rgb_loss"] for h in part) / 5 for part in (history[:5], history[-5:]))
    assert last < 0.8 * first
    # What the loss of depth measures changes from step to step, so it need not fall.
    assert all(0 < h["depth_loss"] < 1 for h in history)
