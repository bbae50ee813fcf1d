"""The recurrent reconstruction network, CUT3R and Mem3R alike."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mem3r_plugin.model.config import PATCH, RAY_ENCODER_HEADS, NetworkConfig
from mem3r_plugin.model.decoder import Decoded, TwinDecoder
from mem3r_plugin.model.encoder import PatchEncoder
from mem3r_plugin.model.gate import ChannelGate, build_gate
from mem3r_plugin.model.heads import FrameOutput, HeadName, Heads
from mem3r_plugin.model.memory import FastWeightMemory, build_memory
from mem3r_plugin.model.state import RecurrentState
from mem3r_plugin.model.updates.plain import PlainUpdate
from mem3r_plugin.model.updates.rule import UpdateContext, UpdateRule

PLAIN: UpdateRule = PlainUpdate()
DEPTH_ONLY: tuple[HeadName, ...] = ("self",)


@dataclass(frozen=True)
class Recurrence:
    """One frame's passage through the state, with what tests and update rules want to see of it."""

    decoded: Decoded
    """Decoder output; its levels feed the heads."""
    pose_prior: Tensor
    """Pose token the decoder started from (batch, 1, width)."""
    gate: Tensor | None
    """The update rule's gate (batch, state tokens, 1); None where it let everything through."""
    written_memory: dict[str, Tensor]
    """Pose memory with the frame written, kept only if the frame updates."""


class ReconstructionNetwork(nn.Module):
    """Encoder, twin decoders with state, pose memory, state gate and heads (arXiv 2604.07279).

    A step is `encode` (needs no state, so frames can be encoded ahead and in batches), `recur` (strictly one
    frame after the other) and `read_out` (needs no state either).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        encoder = config.encoder
        self.image_encoder = PatchEncoder(
            3, encoder.width, encoder.depth, encoder.heads, half_rotary=encoder.half_rotary
        )
        self.ray_encoder = PatchEncoder(6, encoder.width, encoder.ray_map_depth, RAY_ENCODER_HEADS)
        self.masked_image_token = nn.Parameter(torch.zeros(1, encoder.width))
        self.masked_ray_token = nn.Parameter(torch.zeros(1, encoder.width))
        self.decoder = TwinDecoder(encoder.width, config.decoder)
        self.pose_memory = build_memory(config)
        self.state_gate = build_gate(config)
        self.heads = Heads(config)

    def exact_parts(self) -> list[nn.Module]:
        """Small parts that always compute in float32, since errors would add up in them."""
        dense = (self.heads.points_self, self.heads.points_world, self.heads.rgb)
        parts = [self.heads.pose, *(head.output[-1] for head in dense)]
        if isinstance(self.pose_memory, FastWeightMemory):
            parts.append(self.pose_memory)
        return parts

    def initial_state(self, batch_size: int = 1, *, read_first: bool = False) -> RecurrentState:
        """The state before a scan, or after a reset.

        Args:
            batch_size: streams that run side by side.
            read_first: read the pose memory even for the first frame (only to reproduce CUT3R's resets).
        """
        tokens = self.decoder.initial_state(batch_size)
        memory = self.pose_memory.initial(batch_size)
        return RecurrentState(tokens, memory, {}, frames=0, read_first=read_first)

    def encode(self, images: Tensor) -> Tensor:
        """Tokens (batch, tokens, encoder width) of RGB `images` (batch, 3, height, width) in [-1, 1]."""
        return self.image_encoder(images)

    def encode_views(
        self, images: Tensor | None, ray_maps: Tensor | None, *, mask_missing: bool = False
    ) -> Tensor:
        """Tokens of views given by a picture, a map of rays, or both (cut3r_backbone.md section 3).

        Args:
            images: (batch, 3, height, width) in [-1, 1], or None.
            ray_maps: (batch, height, width, 6) origin and direction, or None.
            mask_missing: add the learned stand-in for whatever is missing, as offline CUT3R does.
        """
        if images is None and ray_maps is None:
            raise ValueError("a view needs an image or a ray map")
        tokens: Tensor | float = 0.0
        if images is not None:
            tokens = tokens + self.image_encoder(images)
        elif mask_missing:
            tokens = tokens + self.masked_image_token
        if ray_maps is not None:
            tokens = tokens + self.ray_encoder(ray_maps.permute(0, 3, 1, 2))
        elif mask_missing:
            tokens = tokens + self.masked_ray_token
        assert isinstance(tokens, Tensor)
        return tokens

    def recur(
        self,
        state: RecurrentState,
        image_tokens: Tensor,
        grid: tuple[int, int],
        *,
        rule: UpdateRule = PLAIN,
        update: bool = True,
    ) -> tuple[Recurrence, RecurrentState]:
        """Pass one frame's tokens through the state.

        Args:
            state: the state before the frame; it is not changed.
            image_tokens: (batch, rows * columns, encoder width).
            grid: rows and columns of the patch grid.
            rule: gates what is written to the state tokens.
            update: False asks what the network sees without letting the frame change anything.
        """
        rule_step = rule.step()
        feature = image_tokens.mean(dim=1)
        prior = self.pose_memory.read(
            state.memory, feature, first=state.first and not state.read_first
        )
        decoded = self.decoder(state.tokens, prior, image_tokens, grid, rule_step.observer)
        memory = self.pose_memory.write(state.memory, feature, decoded.pose_token)
        verdict = rule_step.finish(
            UpdateContext(
                state.first, update, state.tokens, decoded.candidate, image_tokens, state.rule
            )
        )
        writes = update or (rule.ignores_update_flag and verdict.gate is not None)
        new_state = replace(
            state,
            tokens=self._write(state, decoded.candidate, feature, verdict.gate)
            if writes
            else state.tokens,
            memory=memory if update else state.memory,
            rule=verdict.kept,
            frames=state.frames + 1,
        )
        return Recurrence(decoded, prior, verdict.gate, memory), new_state

    def read_out(
        self,
        image_tokens: Tensor,
        levels: tuple[Tensor, Tensor, Tensor],
        grid: tuple[int, int],
        heads: Collection[HeadName] = DEPTH_ONLY,
    ) -> FrameOutput:
        """The heads' answer from tokens (batch, …) of any number of decoded frames."""
        return self.heads(image_tokens, levels, grid, heads)

    def step(
        self,
        state: RecurrentState,
        image_tokens: Tensor,
        size: tuple[int, int],
        *,
        rule: UpdateRule = PLAIN,
        heads: Collection[HeadName] = DEPTH_ONLY,
        update: bool = True,
    ) -> tuple[FrameOutput, RecurrentState]:
        """`recur` and `read_out` for one frame of `size` = (height, width) pixels."""
        grid = (size[0] // PATCH, size[1] // PATCH)
        recurrence, state = self.recur(state, image_tokens, grid, rule=rule, update=update)
        return self.read_out(image_tokens, recurrence.decoded.levels, grid, heads), state

    def _write(
        self, state: RecurrentState, candidate: Tensor, feature: Tensor, rule_gate: Tensor | None
    ) -> Tensor:
        """State tokens G zeta candidate + (1 - G zeta) state.

        The paper prints the second term as G (1 - zeta) state, which would erase the state wherever a rule
        closes its gate G; with G = 1 both are the same (mem3r.md, step 6).
        """
        gate = rule_gate
        if self.state_gate is not None:
            learned = self.state_gate(state.tokens, feature)
            gate = learned if gate is None else gate * learned
        if gate is None:
            return candidate
        return gate * candidate + (1 - gate) * state.tokens


def initialise(network: ReconstructionNetwork) -> None:
    """Random initial weights for training from scratch: Xavier for matrices, zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for encoder in (network.image_encoder, network.ray_encoder):
        nn.init.xavier_uniform_(encoder.patch_embedding.weight.flatten(1))
    nn.init.normal_(network.masked_image_token, std=0.02)
    nn.init.normal_(network.masked_ray_token, std=0.02)
    if isinstance(network.pose_memory, FastWeightMemory):
        network.pose_memory.reset_rates()
    if isinstance(network.state_gate, ChannelGate):
        network.state_gate.reset_open()
