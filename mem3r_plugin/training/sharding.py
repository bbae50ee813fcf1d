"""Several processes that each hold a share of the weights, gradients and moments (FSDP, arXiv 2304.11277).

Torch's own `fully_shard` rather than accelerate's plug-in around it: that one refuses to run without GPUs, so
could not be tested on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.model.blocks import DecoderBlock, EncoderBlock, ModulatedBlock
from mem3r_plugin.model.network import ReconstructionNetwork


def shard(learner: nn.Module) -> None:
    """Split a module among all processes, in place; a block is whole only while it computes.

    Every process must hold the same weights before. Parameters become `DTensor`s, so an optimiser is made
    after this.

    Raises:
        ConfigError: this torch has no `fully_shard`.
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ConfigError(f"shard needs torch 2.6 or later, this is {torch.__version__}") from error
    device = next(learner.parameters()).device.type
    mesh = dist.init_device_mesh(device, (dist.get_world_size(),))
    for module in learner.modules():
        if isinstance(module, EncoderBlock | DecoderBlock | ModulatedBlock):
            fully_shard(module, mesh=mesh)
    fully_shard(learner, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """A tensor, gathered if it is shared; then every process must ask for it."""
    shared: Any = tensor
    return shared.full_tensor() if _is_shared(tensor) else tensor


def shared_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor with another one's type, device and, if that is shared, distribution."""
    tensor = tensor.to(other.device, other.dtype)
    if not _is_shared(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    shared: Any = other
    return distribute_tensor(tensor, shared.device_mesh, shared.placements)


def whole_network(network: ReconstructionNetwork) -> ReconstructionNetwork:
    """A network with all weights in every process: itself if it is not sharded, else a copy."""
    weights = network.state_dict()
    if not any(_is_shared(tensor) for tensor in weights.values()):
        return network
    with torch.device("meta"):
        copy = ReconstructionNetwork(network.config)
    copy.load_state_dict({name: whole(t).detach() for name, t in weights.items()}, assign=True)
    return copy


def _is_shared(tensor: Tensor) -> bool:
    # Not by the class, which older torch keeps elsewhere and some builds lack.
    return hasattr(tensor, "full_tensor")
