"""Pose memories: what tells the decoder where the camera may be before it has looked.

A pose memory is read before a frame is decoded (it gives the pose token) and written after it.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mem3r_plugin.model.config import MemoryConfig, NetworkConfig
from mem3r_plugin.model.memory.fast_weights import FastWeightMemory
from mem3r_plugin.model.memory.local import LocalMemory

MemoryTensors = dict[str, Tensor]


class PoseMemory(Protocol):
    """What both memories can do; `feature` is the mean of the encoder tokens, (batch, encoder width)."""

    def initial(self, batch_size: int) -> MemoryTensors:
        """The memory before the first frame."""

    def read(self, memory: MemoryTensors, feature: Tensor, *, first: bool) -> Tensor:
        """The pose token (batch, 1, width) for the frame; `first` marks the first frame of a scan."""

    def write(self, memory: MemoryTensors, feature: Tensor, pose_token: Tensor) -> MemoryTensors:
        """The memory after the frame whose refined pose token is `pose_token` (batch, width)."""


def build_memory(config: NetworkConfig) -> LocalMemory | FastWeightMemory:
    """The pose memory a network's configuration asks for."""
    encoder_width, width = config.encoder.width, config.decoder.width
    memory: MemoryConfig = config.memory
    if memory.kind == "local":
        return LocalMemory(encoder_width, width, memory.slots, config.decoder.image_heads)
    return FastWeightMemory(
        encoder_width, width, memory.heads, base_rate=memory.base_rate, max_decay=memory.max_decay
    )


__all__ = ["FastWeightMemory", "LocalMemory", "MemoryTensors", "PoseMemory", "build_memory"]
