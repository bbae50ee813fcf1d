"""Batches of rendered sequences, drawn by step number alone so that training can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mem3r_plugin.geometry.pose import quaternion_from_rotation
from mem3r_plugin.training.clips import Clips, cut, reframed, render_sequences
from mem3r_plugin.training.config import Stage, TrainingConfig
from mem3r_plugin.training.worlds import RenderedViews, grade
from mem3r_plugin.training.worlds.planes import sample_plane
from mem3r_plugin.training.worlds.textures import texture_pool

SEEDS_PER_RUN = 1_000_000
"""Worlds one run may draw; a run's seed chooses which."""


@dataclass
class SequenceBatch:
    """B sequences of T views with their ground truth; world is each sequence's first camera."""

    images: Tensor
    """RGB in [-1, 1], (B, T, 3, H, W)."""
    depth: Tensor
    """z-depth in metres, 0 where it does not count, (B, T, H, W)."""
    camera_to_world: Tensor
    """Poses (B, T, 4, 4), OpenCV axes."""
    poses: Tensor
    """The same as translation and quaternion wxyz, (B, T, 7)."""
    rays: Tensor
    """Camera coordinates of the points at depth 1 seen by each pixel, (B, H, W, 3)."""

    @property
    def valid(self) -> Tensor:
        """Pixels that count (B, T, H, W)."""
        return self.depth > 0

    @cached_property
    def points_self(self) -> Tensor:
        """True points in each camera's frame (B, T, H, W, 3)."""
        return self.rays[:, None] * self.depth[..., None]

    @cached_property
    def points_world(self) -> Tensor:
        """True points in the first camera's frame (B, T, H, W, 3)."""
        return self._in_world(self.points_self)

    @cached_property
    def ray_maps(self) -> Tensor:
        """Ray maps (B, T, H, W, 6): camera centre and direction (cut3r_backbone.md section 3).

        As in CUT3R the direction is the unit vector from the WORLD's origin to the point at depth 1.
        """
        centre = self.camera_to_world[:, :, None, None, :3, 3]
        ahead = self._in_world(self.rays[:, None].expand_as(self.points_self))
        return torch.cat(
            [centre.expand_as(ahead), torch.nn.functional.normalize(ahead, dim=-1)], dim=-1
        )

    def to(self, device: torch.device) -> SequenceBatch:
        """The same batch on another device."""
        return SequenceBatch(
            *(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self))
        )

    def _in_world(self, points: Tensor) -> Tensor:
        rotation, centre = self.camera_to_world[..., :3, :3], self.camera_to_world[..., :3, 3]
        moved = torch.einsum("btij,bthwj->bthwi", rotation, points)
        return moved + centre[:, :, None, None]


def collate(sequences: list[RenderedViews], far: float) -> SequenceBatch:
    """Stack rendered sequences of one size; depth beyond `far` metres does not count."""
    rays = [view.intrinsics.unproject_depth(np.ones(view.depth.shape[-2:])) for view in sequences]
    depth = torch.stack([view.depth for view in sequences])
    camera_to_world = torch.stack([view.camera_to_world for view in sequences])
    rotations = camera_to_world[..., :3, :3].cpu().numpy()
    quaternions = torch.from_numpy(quaternion_from_rotation(rotations)).to(depth.device)
    return SequenceBatch(
        images=torch.stack([view.images for view in sequences]) * 2 - 1,
        depth=torch.where(depth <= far, depth, 0.0),
        camera_to_world=camera_to_world.float(),
        poses=torch.cat([camera_to_world[..., :3, 3], quaternions], dim=-1).float(),
        rays=torch.from_numpy(np.stack(rays)).float().to(depth.device),
    )


class WorldBatches(IterableDataset[SequenceBatch]):
    """Endless batches; the batch of a step depends on the step, the configuration and the rank only."""

    def __init__(
        self,
        config: TrainingConfig,
        first_step: int = 0,
        rank: int = 0,
        ranks: int = 1,
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.clips = Clips(config.data)
        self.first_step = first_step
        self.rank = rank
        self.ranks = ranks
        self.device = device

    def __iter__(self) -> Iterator[SequenceBatch]:
        """Batches of this worker's share of the steps, in order."""
        worker = get_worker_info()
        start, share = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.first_step + start, self.config.steps, share):
            yield self.batch_at(step)

    def batch_at(self, step: int) -> SequenceBatch:
        """The batch of one step."""
        data, stage = self.config.data, self.config.stage_at(step)
        place = (step * self.ranks + self.rank) * stage.sequences
        worlds = SEEDS_PER_RUN if data.keep is None else data.clips
        seeds = [
            self.config.seed * SEEDS_PER_RUN + (place + index) % worlds
            for index in range(stage.sequences)
        ]
        draw = np.random.default_rng([self.config.seed, step, self.rank])
        planes = int(draw.binomial(stage.sequences, stage.planes)) if stage.planes else 0
        views = self._of_planes(planes, stage, draw) + self._of_worlds(seeds[planes:], stage, draw)
        if data.shapes:
            # The same for all ranks, since they wait for each other.
            size = data.shapes[step % len(data.shapes)]
            views = [reframed(view, size, draw) for view in views]
        if data.grading:
            views = [_graded(view, data.grading, draw) for view in views]
        return collate(views, data.far)

    def _of_planes(
        self, count: int, stage: Stage, draw: np.random.Generator
    ) -> list[RenderedViews]:
        if not count:
            return []
        data = self.config.data
        pool = texture_pool(data.textures)
        return [sample_plane(draw, stage.views, data.size, pool) for _ in range(count)]

    def _of_worlds(
        self, seeds: list[int], stage: Stage, draw: np.random.Generator
    ) -> list[RenderedViews]:
        data = self.config.data
        if not seeds:
            return []
        if data.keep is None:
            stride = draw_stride(stage, draw)
            return render_sequences(data, seeds, stage.views, stride, self.device)
        return [
            cut(
                self.clips.clip(seed), stage.views, draw_stride(stage, draw, data.clip_stride), draw
            )
            for seed in seeds
        ]


def _graded(views: RenderedViews, share: float, rng: np.random.Generator) -> RenderedViews:
    """The views as another camera would show them, in that share of cases."""
    return replace(views, images=grade(views.images, rng)) if rng.random() < share else views


def draw_stride(stage: Stage, rng: np.random.Generator, unit: int = 1) -> int:
    """Path frames from one view to the next, in steps of `unit` of them, evenly in the logarithm."""
    least, greatest = stage.stride
    return max(1, round(float(np.exp(rng.uniform(np.log(least), np.log(greatest)))) / unit))


def batch_loader(dataset: WorldBatches) -> DataLoader[SequenceBatch]:
    """A loader that renders ahead in processes, or in place when there are no workers."""
    workers = dataset.config.data.workers
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
    )


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
