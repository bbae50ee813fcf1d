"""The network unrolled over sequences, as one module with one forward pass per batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.heads import FrameOutput, HeadName
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.training.batch import SequenceBatch
from mem3r_plugin.training.config import LossWeights
from mem3r_plugin.training.losses import (
    motion_loss,
    point_loss,
    pose_loss,
    rgb_loss,
    sequence_scale,
)


class UnrolledNetwork(nn.Module):
    """Losses of whole sequences; what accelerate wraps for more than one device.

    Encoder and heads need no state, so they see all views at once; only the recurrence goes view by view.
    """

    def __init__(
        self,
        network: ReconstructionNetwork,
        weights: LossWeights,
        truncate: int = 0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.weights = weights
        self.truncate = truncate
        self.checkpoint_activations = checkpoint_activations
        wanted: dict[HeadName, float] = {
            "self": weights.points_self,
            "world": weights.points_world,
            "rgb": weights.rgb,
        }
        self.heads: tuple[HeadName, ...] = tuple(head for head, weight in wanted.items() if weight)

    def forward(self, batch: SequenceBatch, asked: int | None = None) -> dict[str, Tensor]:
        """Loss terms by the names of their weights.

        Args:
            batch: sequences with their ground truth.
            asked: index of a view that is given by its rays alone and changes nothing; None for none.
        """
        output = self.unroll(batch, asked)
        return self.losses(output, batch, asked)

    def unroll(self, batch: SequenceBatch, asked: int | None = None) -> FrameOutput:
        """The network's answer for all views, each tensor (B * T, …), views of a sequence together."""
        sequences, views, _, height, width = batch.images.shape
        grid = (height // PATCH, width // PATCH)
        tokens = self.encode(batch.images.flatten(0, 1)).unflatten(0, (sequences, views))
        if asked is not None:
            rays = self.network.encode_views(None, batch.ray_maps[:, asked])
            tokens = torch.cat(
                [tokens[:, :asked], rays.unsqueeze(1).to(tokens), tokens[:, asked + 1 :]], dim=1
            )
        state = self.network.initial_state(sequences)
        levels = []
        for view in range(views):
            if self.truncate and view and view % self.truncate == 0:
                state = state.detach()
            recurrence, state = self.network.recur(
                state, tokens[:, view], grid, update=view != asked
            )
            levels.append(recurrence.decoded.levels)
        first, second, last = (
            torch.stack(level, dim=1).flatten(0, 1) for level in zip(*levels, strict=True)
        )
        return self.network.read_out(tokens.flatten(0, 1), (first, second, last), grid, self.heads)

    def encode(self, images: Tensor) -> Tensor:
        """Encoder tokens (N, tokens, width) of images (N, 3, H, W)."""
        if self.checkpoint_activations and self.training:
            tokens: Tensor = checkpoint(self.network.encode, images, use_reentrant=False)
            return tokens
        return self.network.encode(images)

    def losses(
        self, output: FrameOutput, batch: SequenceBatch, asked: int | None
    ) -> dict[str, Tensor]:
        """Compare the answer for all views with the truth."""
        shape, scale = batch.images.shape[:2], sequence_scale(batch)
        pose = output.pose.unflatten(0, shape)
        terms = {
            "pose": pose_loss(pose, batch.poses, scale),
            "motion": motion_loss(pose, batch.poses, scale),
        }
        for name, points, confidence, true in (
            ("points_self", output.points_self, output.confidence_self, "points_self"),
            ("points_world", output.points_world, output.confidence_world, "points_world"),
        ):
            if points is not None and confidence is not None:
                terms[name] = point_loss(
                    points.unflatten(0, shape),
                    confidence.unflatten(0, shape),
                    getattr(batch, true),
                    batch.valid,
                    scale,
                    self.weights.confidence,
                )
        if output.rgb is not None and asked is not None:
            rgb = output.rgb.unflatten(0, shape)[:, asked]
            terms["rgb"] = rgb_loss(rgb, batch.images[:, asked])
        return terms
