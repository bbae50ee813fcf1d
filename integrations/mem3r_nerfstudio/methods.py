"""The methods `mem3r-nerfacto`, `mem3r-depth-nerfacto` and `mem3r-splatfacto` of `ns-train`.

Nerfstudio's own settings, but for the dataparser, depth supervision, and cameras refined no farther than
small corrections of poses that are good already.
"""

from __future__ import annotations

from typing import Any

from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import (
    VanillaDataManager,
    VanillaDataManagerConfig,
)
from nerfstudio.data.datamanagers.full_images_datamanager import (
    FullImageDatamanager,
    FullImageDatamanagerConfig,
)
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.nerfacto import NerfactoModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification

from mem3r_nerfstudio.dataparser import Mem3RDataParserConfig
from mem3r_nerfstudio.dataset import ConfidentDepthDataset
from mem3r_nerfstudio.models import (
    Mem3RDepthNerfactoModelConfig,
    Mem3RNerfactoModelConfig,
    Mem3RSplatfactoModelConfig,
)


def _adam(rate: float) -> AdamOptimizerConfig:
    return AdamOptimizerConfig(lr=rate, eps=1e-15)


def _nerfacto_optimisers() -> dict[str, Any]:
    decay = ExponentialDecaySchedulerConfig(lr_final=0.0001, max_steps=200000)
    return {
        "proposal_networks": {"optimizer": _adam(1e-2), "scheduler": decay},
        "fields": {"optimizer": _adam(1e-2), "scheduler": decay},
        "camera_opt": {
            "optimizer": _adam(1e-3),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-4, max_steps=5000),
        },
    }


def _splatfacto_optimisers() -> dict[str, Any]:
    def constant(rate: float) -> dict[str, Any]:
        return {"optimizer": _adam(rate), "scheduler": None}

    def warmed_up(rate: float, final: float) -> dict[str, Any]:
        scheduler = ExponentialDecaySchedulerConfig(
            lr_final=final, max_steps=30000, warmup_steps=1000, lr_pre_warmup=0
        )
        return {"optimizer": _adam(rate), "scheduler": scheduler}

    positions = ExponentialDecaySchedulerConfig(lr_final=1.6e-6, max_steps=30000)
    return {
        "means": {"optimizer": _adam(1.6e-4), "scheduler": positions},
        "features_dc": constant(2.5e-3),
        "features_rest": constant(2.5e-3 / 20),
        "opacities": constant(5e-2),
        "scales": constant(5e-3),
        "quats": constant(1e-3),
        "camera_opt": warmed_up(1e-4, 5e-7),
        "bilateral_grid": warmed_up(2e-3, 1e-4),
    }


def _trainer(name: str, **settings: Any) -> TrainerConfig:
    return TrainerConfig(
        method_name=name,
        steps_per_save=2000,
        max_num_iterations=30000,
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
        **settings,
    )


def _nerfacto(
    name: str, datamanager: type, model: type[NerfactoModelConfig], description: str
) -> MethodSpecification:
    pipeline = VanillaPipelineConfig(
        datamanager=VanillaDataManagerConfig(
            _target=datamanager,
            dataparser=Mem3RDataParserConfig(),
            train_num_rays_per_batch=4096,
            eval_num_rays_per_batch=4096,
        ),
        model=model(
            eval_num_rays_per_chunk=1 << 15,
            average_init_density=0.01,
            camera_optimizer=CameraOptimizerConfig(mode="SO3xR3"),
        ),
    )
    config = _trainer(
        name,
        steps_per_eval_batch=500,
        mixed_precision=True,
        pipeline=pipeline,
        optimizers=_nerfacto_optimisers(),
    )
    return MethodSpecification(config=config, description=description)


nerfacto = _nerfacto(
    "mem3r-nerfacto",
    VanillaDataManager[InputDataset],
    Mem3RNerfactoModelConfig,
    "Nerfacto on the cameras of a Mem3R scan.",
)

depth_nerfacto = _nerfacto(
    "mem3r-depth-nerfacto",
    VanillaDataManager[ConfidentDepthDataset],
    Mem3RDepthNerfactoModelConfig,
    "Nerfacto on the cameras of a Mem3R scan, supervised by its depth.",
)

splatfacto = MethodSpecification(
    config=_trainer(
        "mem3r-splatfacto",
        steps_per_eval_image=100,
        steps_per_eval_batch=0,
        steps_per_eval_all_images=1000,
        mixed_precision=False,
        pipeline=VanillaPipelineConfig(
            datamanager=FullImageDatamanagerConfig(
                _target=FullImageDatamanager[ConfidentDepthDataset],
                dataparser=Mem3RDataParserConfig(),
                cache_images_type="uint8",
            ),
            model=Mem3RSplatfactoModelConfig(camera_optimizer=CameraOptimizerConfig(mode="SO3xR3")),
        ),
        optimizers=_splatfacto_optimisers(),
    ),
    description="Gaussian splats seeded from a Mem3R scan and supervised by its depth.",
)
