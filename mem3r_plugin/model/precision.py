"""In which number format the network computes.

In bfloat16 the matrix products and convolutions are done in that format, on weights converted once. What is
added up over layers or over time stays in float32: the residual stream, norms, fast weights, pose and points.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.amp import is_autocast_available

from mem3r_plugin.machine import processor_capabilities
from mem3r_plugin.model.blocks import MLP
from mem3r_plugin.model.packed import PackedLinear, can_pack

if TYPE_CHECKING:
    from mem3r_plugin.model.network import ReconstructionNetwork

Precision = Literal["auto", "float32", "bfloat16"]
"""Arithmetic of the network; `auto` is bfloat16 where the machine is fast at it and the network bears it."""

MAX_POSE_ERROR = 1e-2
"""Largest difference of a pose's numbers, beside the length of its translation, that bfloat16 may make."""
MAX_DEPTH_ERROR = 1e-2
"""Largest median difference of depth, beside the distance of the point."""

TRIAL_SIZE = (96, 128)
"""Height and width of the pictures on which the formats are compared."""
TRIAL_FRAMES = 2


def working_dtype(device: torch.device) -> torch.dtype:
    """The format that matrix products come in here: autocast's, or float32."""
    if is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


def in_float32(device: torch.device) -> AbstractContextManager[object]:
    """A block that computes in float32 whatever surrounds it."""
    if not is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def arithmetic(device: torch.device, precision: Precision) -> torch.autocast:
    """A block that computes in `precision`, which is no longer `auto`.

    On a GPU no converted weights are kept for the block, since a CUDA graph would read them after its end.
    """
    return torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=precision == "bfloat16",
        cache_enabled=device.type != "cuda",
    )


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether the machine has matrix units for bfloat16, which are much faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = processor_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def choose_precision(network: ReconstructionNetwork, wanted: Precision) -> Precision:
    """`wanted`, with `auto` decided: bfloat16 where it is fast and agrees with float32 on a trial.

    The same network on the same kind of machine always gets the same answer.
    """
    if wanted != "auto":
        return wanted
    device = next(network.parameters()).device
    if not fast_in_bfloat16(device):
        return "float32"
    exact, rough = (_trial(network, device, p) for p in ("float32", "bfloat16"))
    pose_error = (rough[0] - exact[0]).abs().amax(-1) / exact[0][:, :3].norm(dim=-1).clamp_min(1)
    depth_error = (rough[1] - exact[1])[..., 2].abs() / exact[1].norm(dim=-1).clamp_min(1e-6)
    agrees = pose_error.max() <= MAX_POSE_ERROR and depth_error.median() <= MAX_DEPTH_ERROR
    return "bfloat16" if agrees else "float32"


@torch.inference_mode()
def _trial(
    network: ReconstructionNetwork, device: torch.device, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Poses (frames, 7) and points (frames, height, width, 3) of a few made-up pictures."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(TRIAL_FRAMES, 3, 12, 16, generator=generator)
    pictures = nn.functional.interpolate(coarse, TRIAL_SIZE, mode="bilinear").to(device) * 2 - 1
    poses, points = [], []
    with arithmetic(device, precision):
        state = network.initial_state()
        for tokens in network.encode(pictures).split(1):
            output, state = network.step(state, tokens, TRIAL_SIZE)
            assert output.points_self is not None
            poses.append(output.pose)
            points.append(output.points_self)
    return torch.cat(poses).float(), torch.cat(points).float()


def convert(network: ReconstructionNetwork, precision: Precision) -> ReconstructionNetwork:
    """The network with its weights as `precision` wants them, changed in place; for inference only.

    Kernels are laid out channels last, as the maps come, and on a CPU matrices as oneDNN multiplies them. In
    bfloat16 all of these are kept in that format, so that no step converts them again. What must compute in
    float32, pose head and fast weights, stays as it is.
    """
    exact = {id(module) for part in network.exact_parts() for module in part.modules()}
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        low = isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))
        if precision == "bfloat16" and low and id(module) not in exact:
            module.to(torch.bfloat16)
    if next(network.parameters()).device.type == "cpu" and can_pack():
        _pack(network, exact)
    return network


def _pack(network: nn.Module, exact: set[int]) -> None:
    """Put packed layers in the place of linear ones, with the GELU of MLPs, except in exact parts."""
    # The layers themselves are not listed, so that each is freed as soon as it is packed.
    parents = [
        module
        for module in network.modules()
        if id(module) not in exact and not isinstance(module, nn.Linear)
    ]
    for parent in parents:
        has_gelu = isinstance(parent, MLP)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and id(child) not in exact:
                setattr(parent, name, PackedLinear(child, gelu=has_gelu and name == "fc1"))
        if has_gelu:
            parent.activation = nn.Identity()
