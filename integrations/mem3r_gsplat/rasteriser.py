"""gsplat's rasteriser, and what to say where it cannot run."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from mem3r_plugin.errors import ConfigError


class Rasteriser(Protocol):
    """Renders Gaussians; `gsplat.rasterization` is the one in use."""

    def __call__(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        Ks: Tensor,  # noqa: N803 - gsplat's name
        width: int,
        height: int,
        *,
        sh_degree: int | None,
        packed: bool,
        render_mode: str,
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Colours, and depth behind them, (C, H, W, 3 or 4); opacity (C, H, W, 1); information."""


def load_rasteriser() -> tuple[Rasteriser, torch.device]:
    """The rasteriser of gsplat and the GPU it runs on.

    Raises:
        ConfigError: there is no CUDA GPU, or gsplat is not installed or cannot be built here.
    """
    if not torch.cuda.is_available():
        raise ConfigError(
            "gsplat's rasteriser needs a CUDA GPU and this machine offers none: run it where there is one, "
            "or train on the CPU with `ns-train mem3r-nerfacto`"
        )
    try:
        from gsplat import rasterization
        from gsplat.cuda._backend import _C
    except ImportError as error:
        raise ConfigError(
            f'gsplat cannot be used ({error}); install it with pip install "mem3r-plugin[gsplat]" and a CUDA '
            "toolkit of torch's version"
        ) from error
    if _C is None:
        raise ConfigError(
            "gsplat found no CUDA compiler (nvcc) and brings no ready build for this torch: install the CUDA "
            "toolkit of torch's version, or one of gsplat's prebuilt wheels"
        )
    return rasterization, torch.device("cuda")
