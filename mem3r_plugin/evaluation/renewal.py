"""Networks streamed by hand, without sources and sinks, yet with the resets the front end would make."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.model.heads import FrameOutput, HeadName
from mem3r_plugin.model.network import DEPTH_ONLY, ReconstructionNetwork
from mem3r_plugin.model.updates import UpdateRule

Poses = NDArray[np.float64]


class RenewedStream:
    """Streams side by side whose state starts anew as often as the network's preset says.

    After `reset_interval` frames the last one is fed once more to a new state, and what follows is joined to
    its pose, as the front end does (`ResetChain`).
    """

    def __init__(self, network: ReconstructionNetwork, rule: UpdateRule, streams: int = 1) -> None:
        self.network = network
        self.rule = rule
        self.streams = streams
        self._state = network.initial_state(streams)
        self._since_reset = 0
        self._placed: Poses = np.tile(np.eye(4), (streams, 1, 1))
        self._world_from_network: Poses | None = None

    @torch.inference_mode()
    def step(
        self, tokens: Tensor, grid: tuple[int, int], heads: Collection[HeadName] = DEPTH_ONLY
    ) -> tuple[FrameOutput, Poses]:
        """One frame of every stream.

        Args:
            tokens: encoder tokens (streams, rows * columns, width).
            grid: rows and columns of the patch grid.
            heads: dense heads to compute.

        Returns:
            the network's answer, and camera-to-world poses (streams, 4, 4), the first frame's the identity.
        """
        output, poses = self._pass(tokens, grid, heads)
        if self._world_from_network is None:
            self._world_from_network = invert_pose(poses)
        self._placed = self._world_from_network @ poses
        self._since_reset += 1
        if self._since_reset == self.network.config.reset_interval:
            self._state, self._since_reset = self.network.initial_state(self.streams), 0
            _, again = self._pass(tokens, grid, ())
            self._world_from_network = self._placed @ invert_pose(again)
        return output, self._placed

    def _pass(
        self, tokens: Tensor, grid: tuple[int, int], heads: Collection[HeadName]
    ) -> tuple[FrameOutput, Poses]:
        recurrence, self._state = self.network.recur(self._state, tokens, grid, rule=self.rule)
        output = self.network.read_out(tokens, recurrence.decoded.levels, grid, heads)
        return output, output.camera_to_world.double().cpu().numpy()
