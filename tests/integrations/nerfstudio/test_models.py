"""The models: trusted depth counts, and a missing AlexNet stops nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nerfstudio", reason="make test-nerfstudio runs these in their own environment")

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models import splatfacto as nerfstudio_splatfacto
from nerfstudio.pipelines.base_pipeline import VanillaPipeline

from mem3r_nerfstudio import methods
from mem3r_nerfstudio.dataset import ConfidentDepthDataset
from mem3r_nerfstudio.lpips import UnavailableMetric
from mem3r_nerfstudio.models import Mem3RSplatfactoModel, drawn_depth, log_depth_loss
from mem3r_plugin.scan import Scan
from tests.integrations.gsplat.torch_rasteriser import rasterise
from tests.room_scan import make_room_scan


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = tmp_path_factory.mktemp("room")
    return make_room_scan(folder, frames=10, size=(48, 32), network_size=48, focal=40.0)


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and no AlexNet from an earlier day."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def pipeline_of(config: TrainerConfig, room: Scan) -> VanillaPipeline:
    config.pipeline.datamanager.dataparser.data = room.path
    config.pipeline.datamanager.data = room.path
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    assert isinstance(pipeline, VanillaPipeline)
    return pipeline


@given(st.floats(0, 1), st.integers(0, 100))
def test_depth_is_drawn_as_often_as_it_is_trusted(weight: float, seed: int) -> None:
    torch.manual_seed(seed)
    depth = torch.full((20_000, 1), 3.0)
    drawn = drawn_depth(depth, torch.full_like(depth, weight))
    assert set(drawn.unique().tolist()) <= {0.0, 3.0}
    assert float((drawn > 0).float().mean()) == pytest.approx(weight, abs=0.02)


@given(st.floats(0.1, 10), st.floats(0.5, 2))
def test_depth_loss_knows_relative_errors_only(depth: float, factor: float) -> None:
    truth = torch.full((4, 5, 1), depth)
    loss = log_depth_loss(truth * factor, truth, torch.ones_like(truth))
    assert float(loss) == pytest.approx(abs(np.log(factor)), abs=1e-5)
    assert float(log_depth_loss(truth, torch.zeros_like(truth), torch.ones_like(truth))) == 0


def test_weights_are_those_of_the_scan(room: Scan) -> None:
    pipeline = pipeline_of(methods.depth_nerfacto.config, room)
    dataset = pipeline.datamanager.train_dataset
    assert isinstance(dataset, ConfidentDepthDataset)
    weight = dataset[0]["depth_weight"]
    frame = next(f.index for f in room.frames if f.name == dataset.image_filenames[0].name)
    expected = 1 - 1 / room.transform.inverse.sample(room.confidence(frame), outside=1.0)
    assert np.allclose(weight[..., 0].numpy(), expected, atol=1 / 255)
    _, batch = pipeline.datamanager.next_train(0)
    assert batch["depth_weight"].shape == batch["depth_image"].shape


def test_depth_is_in_the_units_of_the_scene(room: Scan) -> None:
    dataset = pipeline_of(methods.depth_nerfacto.config, room).datamanager.train_dataset
    scale = dataset._dataparser_outputs.dataparser_scale
    frame = next(f.index for f in room.frames if f.name == dataset.image_filenames[0].name)
    depth = dataset[0]["depth_image"][..., 0].numpy()
    assert np.allclose(depth, scale * room.original_depth(frame), rtol=1e-4)


@pytest.mark.parametrize("method", ["nerfacto", "depth_nerfacto", "splatfacto"])
def test_models_are_built_without_a_network(method: str, room: Scan) -> None:
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor, *_: tensor):
        model = pipeline_of(getattr(methods, method).config, room).model
    assert isinstance(model.lpips, UnavailableMetric)
    assert model.lpips(torch.zeros(1), torch.zeros(1)).isnan()


class RasteriserReachedError(Exception):
    """Splatfacto has come as far as it can without CUDA."""


@pytest.fixture
def cuda_calls_stubbed() -> Iterator[None]:
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor, *_: tensor):
        yield


@pytest.mark.usefixtures("cuda_calls_stubbed")
def test_splatfacto_up_to_the_rasteriser_with_cuda_calls_stubbed(room: Scan) -> None:
    config = methods.splatfacto.config
    pipeline = pipeline_of(config, room)
    model = pipeline.model
    assert isinstance(model, Mem3RSplatfactoModel)
    seeds = pipeline.datamanager.train_dataparser_outputs.metadata["points3D_xyz"]
    assert torch.equal(model.means.detach(), seeds)
    groups = pipeline.get_param_groups()
    assert set(groups) <= set(config.optimizers)
    assert {"means", "opacities", "camera_opt"} <= set(groups)
    camera, batch = pipeline.datamanager.next_train(0)
    assert batch["depth_image"].shape == (32, 48, 1)
    with (
        mock.patch.object(
            nerfstudio_splatfacto, "rasterization", side_effect=RasteriserReachedError
        ),
        pytest.raises(RasteriserReachedError),
    ):
        model(camera)


@pytest.mark.usefixtures("cuda_calls_stubbed")
def test_splatfacto_learns_depth_with_torch_rasteriser_in_place_of_gsplat(room: Scan) -> None:
    config = methods.splatfacto.config
    pipeline = pipeline_of(config, room)
    model = pipeline.model
    model.config.num_downscales = 1
    model.config.use_absgrad = False
    model.strategy.absgrad = False
    model.optimizers = {}  # of use to the strategy, which has no turn here
    optimiser = torch.optim.Adam(list(model.gauss_params.values()), lr=5e-3)
    losses = []
    with mock.patch.object(nerfstudio_splatfacto, "rasterization", in_torch):
        for step in range(12):
            model.step = step
            camera, batch = pipeline.datamanager.next_train(step)
            parts = model.get_loss_dict(model(camera), batch)
            assert set(parts) >= {"main_loss", "depth_loss", "camera_opt_regularizer"}
            losses.append(float((parts["main_loss"] + parts["depth_loss"]).detach()))
            optimiser.zero_grad()
            sum(parts.values()).backward()
            optimiser.step()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def in_torch(**arguments: object) -> object:
    """The slow rasteriser with the arguments that nerfstudio gives to gsplat's."""
    known = {"means", "quats", "scales", "opacities", "colors", "viewmats", "Ks"}
    known |= {"width", "height", "packed", "render_mode", "sh_degree"}
    return rasterise(**{name: value for name, value in arguments.items() if name in known})  # type: ignore[arg-type]
