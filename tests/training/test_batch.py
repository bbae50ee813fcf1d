"""Batches depend on the step alone, and their ground truth is of one piece."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.training.batch import SequenceBatch, WorldBatches, batch_loader
from mem3r_plugin.training.config import DataConfig, Stage, TrainingConfig
from mem3r_plugin.training.worlds import CameraEffects, Handling

CONFIG = TrainingConfig(
    model="mem3r-tiny",
    stages=(Stage(steps=3, views=2, sequences=2), Stage(steps=3, views=3, sequences=1)),
    data=DataConfig(size=(64, 48), workers=0),
)


def equal(first: SequenceBatch, second: SequenceBatch) -> bool:
    return torch.equal(first.images, second.images) and torch.equal(first.depth, second.depth)


def test_graded_batches_show_the_same_worlds_in_other_colours() -> None:
    graded = replace(CONFIG, data=replace(CONFIG.data, grading=1.0))
    for plain, other in zip(WorldBatches(CONFIG), WorldBatches(graded), strict=True):
        assert torch.equal(plain.depth, other.depth)
        assert torch.equal(plain.poses, other.poses)
        assert not torch.equal(plain.images, other.images)
    assert equal(WorldBatches(graded).batch_at(1), WorldBatches(graded).batch_at(1))


def test_a_batch_depends_on_its_step_only() -> None:
    straight = list(WorldBatches(CONFIG))
    resumed = list(WorldBatches(CONFIG, first_step=2))
    assert len(straight) == 6
    assert all(equal(a, b) for a, b in zip(straight[2:], resumed, strict=True))
    assert not equal(straight[0], straight[1])


def test_workers_change_nothing() -> None:
    parallel = replace(CONFIG, data=replace(CONFIG.data, workers=2))
    in_place = list(batch_loader(WorldBatches(CONFIG)))
    ahead = list(batch_loader(WorldBatches(parallel)))
    assert all(equal(a, b) for a, b in zip(in_place, ahead, strict=True))


def test_data_settings_reach_the_worlds() -> None:
    lively = DataConfig(
        size=(64, 48), workers=0, handling=Handling(shake=1.0), effects=CameraEffects(jpeg=1.0)
    )
    plain, changed = (
        WorldBatches(replace(CONFIG, data=data)).batch_at(3) for data in (CONFIG.data, lively)
    )
    assert not torch.equal(plain.camera_to_world, changed.camera_to_world)
    assert not equal(plain, changed)


def test_a_stage_may_show_planes_in_place_of_worlds() -> None:
    def depth(planes: float) -> torch.Tensor:
        stage = Stage(steps=1, views=2, sequences=3, planes=planes)
        return WorldBatches(replace(CONFIG, stages=(stage,))).batch_at(0).depth

    # Inverse depth is linear in the picture where there is nothing but a plane.
    def bent(depth: torch.Tensor) -> torch.Tensor:
        seen = depth.where(depth > 0, torch.nan).reciprocal()
        curvature = seen.diff(n=2, dim=-1).abs() / seen[..., 1:-1]
        return curvature.flatten(1).nan_to_num().amax(1) > 1e-3

    assert not bent(depth(1.0)).any()
    assert bent(depth(0.0)).all()


def test_ranks_draw_different_worlds() -> None:
    first, second = (WorldBatches(CONFIG, 0, rank, 2).batch_at(0) for rank in range(2))
    assert not equal(first, second)


def test_the_curriculum_sets_the_shape() -> None:
    shapes = [tuple(batch.images.shape[:2]) for batch in WorldBatches(CONFIG)]
    assert shapes == [(2, 2)] * 3 + [(1, 3)] * 3


def test_rounds_let_the_stages_take_turns() -> None:
    config = replace(CONFIG, rounds=2)
    assert config.steps == 12
    assert [config.stage_at(step).views for step in range(12)] == [2, 2, 2, 3, 3, 3] * 2
    with pytest.raises(ConfigError, match="rounds = 0: must be at least 1"):
        replace(CONFIG, rounds=0)


def test_batches_have_every_shape_in_turn() -> None:
    data = replace(CONFIG.data, shapes=((64, 48), (64, 32), (48, 48)))
    batches = WorldBatches(replace(CONFIG, data=data))
    other_rank = WorldBatches(batches.config, rank=1, ranks=2)
    shapes = [batches.batch_at(step).images.shape[-2:] for step in range(5)]
    assert shapes == [(48, 64), (32, 64), (48, 48), (48, 64), (32, 64)]
    assert other_rank.batch_at(2).images.shape[-2:] == (48, 48)


def test_ground_truth_is_of_one_piece() -> None:
    batch = WorldBatches(CONFIG).batch_at(4)
    sequences, views, _, height, width = batch.images.shape
    assert batch.images.min() >= -1
    assert batch.images.max() <= 1
    assert torch.equal(batch.camera_to_world[:, 0], torch.eye(4).expand(sequences, 4, 4))
    torch.testing.assert_close(batch.poses[..., :3], batch.camera_to_world[..., :3, 3])
    assert torch.equal(batch.points_self[..., 2], batch.depth)
    assert batch.points_world.shape == (sequences, views, height, width, 3)
    torch.testing.assert_close(batch.points_world[:, 0], batch.points_self[:, 0])
    back = torch.linalg.inv(batch.camera_to_world)
    points = torch.einsum("btij,bthwj->bthwi", back[..., :3, :3], batch.points_world)
    points = points + back[:, :, None, None, :3, 3]
    torch.testing.assert_close(points, batch.points_self, atol=1e-3, rtol=1e-4)


def test_ray_maps_follow_the_reference() -> None:
    """Camera centre, then the unit vector from the world's origin to the point at depth 1."""
    batch = WorldBatches(CONFIG).batch_at(4)
    rays = batch.ray_maps
    centre, direction = rays[..., :3], rays[..., 3:]
    assert torch.equal(centre[0, 2, 5, 7], batch.camera_to_world[0, 2, :3, 3])
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(rays.shape[:-1]))
    pose = batch.camera_to_world[0, 2]
    ahead = pose[:3, :3] @ batch.rays[0, 5, 7] + pose[:3, 3]
    torch.testing.assert_close(direction[0, 2, 5, 7], ahead / ahead.norm())


def test_far_and_sky_do_not_count() -> None:
    near = replace(CONFIG, data=replace(CONFIG.data, far=3.0))
    batch = WorldBatches(near).batch_at(0)
    assert batch.depth.max() <= 3.0
    assert (batch.valid == (batch.depth > 0)).all()
