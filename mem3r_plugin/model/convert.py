"""From one network's weights to another's start: CUT3R to Mem3R, or to any variant in memory and gate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from mem3r_plugin.model.average import average_into
from mem3r_plugin.model.blocks import DecoderBlock
from mem3r_plugin.model.checkpoint import (
    Checkpoint,
    as_trained,
    build_network,
    read_checkpoint,
    write_checkpoint,
)
from mem3r_plugin.model.config import GateConfig, MemoryConfig, NetworkConfig
from mem3r_plugin.model.gate import ChannelGate
from mem3r_plugin.model.memory import FastWeightMemory, LocalMemory
from mem3r_plugin.model.network import ReconstructionNetwork

PRIOR_SCALE = 0.02
"""Size of a new memory's answer beside the old pose token: small, but not too small to learn."""
_ANEW = ("pose_memory", "state_gate")
"""Parts that are never transplanted."""


def convert_checkpoint(
    source: Path,
    output: Path,
    config: NetworkConfig,
    average: Path | None = None,
    share: float = 0.5,
) -> ReconstructionNetwork:
    """Write the checkpoint at `source` as safetensors for a network of `config`.

    A CUT3R becomes the start of a Mem3R, as the paper starts its training.

    Args:
        source: the checkpoint.
        output: the safetensors file.
        config: the network it is for.
        average: another checkpoint of that network, to be averaged with the first.
        share: of `average` in the mean, 0 to 1.

    Raises:
        ConfigError: the share is none.
        WeightsError: a checkpoint cannot be read or does not fit.
        OutputError: the result cannot be written.
    """
    checkpoint = read_checkpoint(source)
    network = network_from(checkpoint, as_trained(config, checkpoint.config))
    if average is not None:
        average_into(network, network_from(read_checkpoint(average), config), share)
    write_checkpoint(network, output)
    return network


def network_from(
    checkpoint: Checkpoint, config: NetworkConfig, *, any_variant: bool = False, seed: int = 0
) -> ReconstructionNetwork:
    """The network of `config` that a checkpoint holds, or is the start of.

    Args:
        checkpoint: weights of that network, or of a CUT3R where the network is a Mem3R.
        config: the wanted network.
        any_variant: the checkpoint may hold any pose memory and gate; both begin anew.
        seed: of the new parts' random weights.

    Raises:
        WeightsError: the checkpoint does not fit.
    """
    is_mem3r = config.memory.kind == "fast_weights"
    if any_variant or (is_mem3r and "pose_memory.slots" in checkpoint.tensors):
        return transplanted(checkpoint, config, seed)
    return build_network(checkpoint, config)


def transplanted(
    checkpoint: Checkpoint, config: NetworkConfig, seed: int = 0
) -> ReconstructionNetwork:
    """A network of `config` with a checkpoint's encoders, decoders and heads, which behaves nearly like it.

    Pose memory and gate begin anew, even where the checkpoint's would fit, so that variants start alike: the
    memory answers with the part of the old one's prior that depends on no picture, plus a small answer of its
    own; the gate lets 98 % of every write through.

    Raises:
        WeightsError: the checkpoint is not whole, or differs in more than memory and gate.
    """
    donor = build_network(checkpoint, _donor_config(checkpoint, config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ReconstructionNetwork(config)
    _start_memory(network.pose_memory, _constant_prior(donor.pose_memory))
    if isinstance(network.state_gate, ChannelGate):
        network.state_gate.reset_open()
    kept = {k: v for k, v in donor.state_dict().items() if k.partition(".")[0] not in _ANEW}
    network.load_state_dict(kept, strict=False)
    return network.eval()


def _donor_config(checkpoint: Checkpoint, config: NetworkConfig) -> NetworkConfig:
    """`config` with the memory and gate that the checkpoint has."""
    if checkpoint.config is not None:
        memory, gate = checkpoint.config.memory, checkpoint.config.gate
        return dataclasses.replace(config, memory=memory, gate=gate)
    slots = checkpoint.tensors.get("pose_memory.slots")
    if slots is None:
        return config
    memory = MemoryConfig(kind="local", slots=slots.shape[1])
    return dataclasses.replace(config, memory=memory, gate=GateConfig(kind="none"))


def _constant_prior(memory: LocalMemory | FastWeightMemory) -> Tensor:
    """The part (width,) of a memory's prior that is the same for every picture."""
    if isinstance(memory, LocalMemory):
        return memory.first_pose_token.detach().flatten()
    return memory.out.bias.detach()


@torch.no_grad()
def _start_memory(memory: LocalMemory | FastWeightMemory, prior: Tensor) -> None:
    """Let a new memory answer `prior` (width,) plus little."""
    if isinstance(memory, FastWeightMemory):
        memory.reset_rates()
        memory.out.weight.mul_(PRIOR_SCALE)
        memory.out.bias.copy_(prior)
        return
    memory.first_pose_token.copy_(prior.expand_as(memory.first_pose_token))
    memory.masked_pose.copy_(prior.expand_as(memory.masked_pose))
    for block in memory.read_blocks:
        assert isinstance(block, DecoderBlock)
        for residual in (block.attention.out, block.cross_attention.out, block.mlp.fc2):
            residual.weight.mul_(PRIOR_SCALE)
            residual.bias.mul_(PRIOR_SCALE)
