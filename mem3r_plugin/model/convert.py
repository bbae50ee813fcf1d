"""From a CUT3R checkpoint to safetensors, or to the start of a Mem3R."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from mem3r_plugin.errors import WeightsError
from mem3r_plugin.model.checkpoint import (
    Checkpoint,
    build_network,
    read_checkpoint,
    write_checkpoint,
)
from mem3r_plugin.model.config import GateConfig, MemoryConfig, NetworkConfig
from mem3r_plugin.model.gate import ChannelGate
from mem3r_plugin.model.memory import FastWeightMemory
from mem3r_plugin.model.network import ReconstructionNetwork

PRIOR_SCALE = 0.02
"""Size of a new memory's answer beside CUT3R's pose token: small, but not too small to learn."""


def convert_checkpoint(source: Path, output: Path, config: NetworkConfig) -> ReconstructionNetwork:
    """Write the checkpoint at `source` as safetensors for a network of `config`.

    If the checkpoint is a CUT3R and the network a Mem3R, the pose retriever is dropped and the new parts are
    initialised so that the first outputs stay close to CUT3R's, as the paper starts its training.

    Raises:
        WeightsError: the checkpoint cannot be read or does not fit.
        OutputError: the result cannot be written.
    """
    checkpoint = read_checkpoint(source)
    if is_mem3r(config) and "pose_memory.slots" in checkpoint.tensors:
        network = mem3r_from_cut3r(checkpoint, config)
    else:
        network = build_network(checkpoint, config)
    write_checkpoint(network, output)
    return network


def is_mem3r(config: NetworkConfig) -> bool:
    """Whether a network has Mem3R's pose memory."""
    return config.memory.kind == "fast_weights"


def cut3r_twin(config: NetworkConfig, slots: int) -> NetworkConfig:
    """The CUT3R that a Mem3R of `config` is initialised from."""
    return dataclasses.replace(
        config,
        name="cut3r",
        memory=MemoryConfig(kind="local", slots=slots),
        gate=GateConfig(kind="none"),
    )


def mem3r_from_cut3r(
    checkpoint: Checkpoint, config: NetworkConfig, seed: int = 0
) -> ReconstructionNetwork:
    """A Mem3R that starts from CUT3R's weights and behaves nearly like it.

    The prior of the new pose memory is CUT3R's learned first pose token plus a small answer of the fast
    weights; the new gate lets 98 % of every write through.

    Raises:
        WeightsError: the checkpoint is not a whole CUT3R of this size.
    """
    slots = checkpoint.tensors["pose_memory.slots"].shape[1]
    cut3r = build_network(checkpoint, cut3r_twin(config, slots)).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ReconstructionNetwork(config)
    memory, gate = network.pose_memory, network.state_gate
    if not isinstance(memory, FastWeightMemory):
        raise WeightsError(f"model {config.name} has no fast-weight memory to initialise")
    memory.reset_rates()
    with torch.no_grad():
        memory.out.weight.mul_(PRIOR_SCALE)
        memory.out.bias.copy_(cut3r["pose_memory.first_pose_token"].flatten())
    if isinstance(gate, ChannelGate):
        gate.reset_open()
    kept = {name: t for name, t in cut3r.items() if not name.startswith("pose_memory.")}
    network.load_state_dict(kept, strict=False)
    return network.eval()
