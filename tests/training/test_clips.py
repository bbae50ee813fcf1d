"""Clips are kept as rendered, and every cut of one is a sequence of its own with exact ground truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mem3r_plugin.training.batch import WorldBatches
from mem3r_plugin.training.clips import Clips, cut, reframed
from mem3r_plugin.training.config import DataConfig, Stage, TrainingConfig
from mem3r_plugin.training.worlds import RenderedViews, sample_sequence
from mem3r_plugin.training.worlds.handling import Handling


@pytest.fixture(scope="module")
def clip() -> RenderedViews:
    return sample_sequence(5, 9, (64, 48), kind="room", photometric=False)


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        model="mem3r-tiny",
        stages=(Stage(steps=4, views=3, sequences=2, stride=(2, 6)),),
        data=DataConfig(size=(64, 48), workers=0, keep=tmp_path, clips=3, clip_frames=8),
    )


def test_a_kept_clip_is_not_rendered_again(config: TrainingConfig) -> None:
    clips = Clips(config.data)
    first = clips.clip(2)
    (file,) = clips.folder.iterdir()
    before = file.stat().st_mtime_ns
    again = Clips(config.data).clip(2)
    assert file.stat().st_mtime_ns == before
    chosen = torch.tensor([1, 5])
    assert len(again) == config.data.clip_frames
    assert torch.equal(first.frames(chosen).images, again.frames(chosen).images)


def test_a_kept_clip_is_what_was_rendered(config: TrainingConfig) -> None:
    kept = Clips(config.data).clip(1).frames(torch.arange(8))
    rendered = sample_sequence(1, 8, (64, 48), stride=2)
    assert (kept.images - rendered.images).abs().max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(kept.depth, rendered.depth, rtol=1e-3, atol=1e-4)
    assert torch.equal(kept.camera_to_world, rendered.camera_to_world)
    assert kept.intrinsics == rendered.intrinsics


def test_chosen_frames_are_those_of_the_clip(config: TrainingConfig) -> None:
    kept, chosen = Clips(config.data).clip(1), torch.tensor([1, 4, 7])
    whole, part = kept.frames(torch.arange(8)), kept.frames(chosen)
    assert torch.equal(part.images, whole.images[chosen])
    assert torch.equal(part.depth, whole.depth[chosen])
    assert torch.equal(part.camera_to_world, whole.camera_to_world[chosen])


def test_other_settings_have_other_clips(config: TrainingConfig) -> None:
    other = replace(config.data, clip_stride=3)
    assert Clips(other).folder != Clips(config.data).folder
    assert Clips(replace(config.data, clips=9)).folder == Clips(config.data).folder


def test_clips_are_named_by_what_is_not_as_usual(config: TrainingConfig) -> None:
    """A setting that is new and off must not send kept clips to be rendered again: these names stay."""
    assert Clips(config.data).folder.name == "5118e3780760"
    moved = replace(config.data, photo_share=0.4, handling=Handling(shake=0.5))
    assert Clips(moved).folder.name == "9bd2c3bd1d50"


def test_batches_depend_on_the_step_only(config: TrainingConfig) -> None:
    straight = list(WorldBatches(config))
    resumed = list(WorldBatches(config, first_step=2))
    for whole, rest in zip(straight[2:], resumed, strict=True):
        assert torch.equal(whole.images, rest.images)
        assert torch.equal(whole.poses, rest.poses)
    assert len(list(Clips(config.data).folder.iterdir())) == config.data.clips


def test_cuts_differ_and_begin_at_the_origin(clip: RenderedViews) -> None:
    rng = np.random.default_rng(0)
    cuts = [cut(clip, 3, 2, rng) for _ in range(8)]
    assert all(torch.equal(c.camera_to_world[0], torch.eye(4).double()) for c in cuts)
    assert len({float(c.images[0, 0, 0, 0]) for c in cuts}) > 4


def test_a_stride_too_long_for_the_clip_is_shortened(clip: RenderedViews) -> None:
    assert len(cut(clip, 8, 5, np.random.default_rng(0)).images) == 8


@pytest.mark.parametrize("seed", range(8))
def test_ground_truth_of_a_cut_is_of_one_piece(clip: RenderedViews, seed: int) -> None:
    """Most pixels of one view, moved to the other by depth and pose, find the depth that is there."""
    views = cut(clip, 2, 1, np.random.default_rng(seed))
    camera = views.intrinsics
    points = camera.unproject_depth(views.depth[1].numpy().astype(np.float64)).reshape(-1, 3)
    pose = views.camera_to_world[1].numpy()
    points = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = points @ camera.matrix.T
    column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    seen = (column >= 0) & (column < 64) & (row >= 0) & (row < 48) & (points[:, 2] > 0)
    found = views.depth[0].numpy()[row[seen], column[seen]]
    assert seen.mean() > 0.6
    assert np.median(np.abs(found / points[seen, 2] - 1)) < 0.02


@pytest.mark.parametrize("size", [(64, 48), (64, 16), (32, 48)])
def test_a_cut_of_full_width_or_height_keeps_its_pixels(
    clip: RenderedViews, size: tuple[int, int]
) -> None:
    part = reframed(clip, size, np.random.default_rng(0))
    assert part.images.shape[-2:] == part.depth.shape[-2:] == size[::-1]
    assert (part.intrinsics.width, part.intrinsics.height) == size
    left, top = (64 - size[0]) // 2, (48 - size[1]) // 2
    whole = clip.intrinsics.unproject_depth(clip.depth[3].numpy())
    middle = whole[top : top + size[1], left : left + size[0]]
    np.testing.assert_allclose(part.intrinsics.unproject_depth(part.depth[3].numpy()), middle)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(32, 16), (16, 32), (32, 32)])
def test_a_reframed_picture_sees_the_same_world(
    clip: RenderedViews, size: tuple[int, int], seed: int
) -> None:
    """Its pixels' rays lead to the depth, and nearly the colour, that the whole picture has there."""
    part = reframed(clip, size, np.random.default_rng(seed))
    assert part.images.shape[-2:] == part.depth.shape[-2:] == size[::-1]
    points = part.intrinsics.unproject_depth(part.depth[3].numpy().astype(np.float64))
    pixels = points[part.depth[3] > 0] @ clip.intrinsics.matrix.T
    column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    found = clip.depth[3].numpy()[row, column]
    assert np.median(np.abs(found / pixels[:, 2] - 1)) < 0.02
    colours = part.images[3].permute(1, 2, 0)[part.depth[3] > 0]
    assert (colours - clip.images[3].permute(1, 2, 0)[row, column]).abs().median() < 0.03


def test_lenses_are_longer_or_not(clip: RenderedViews) -> None:
    rng = np.random.default_rng(0)
    angles = [32 / reframed(clip, (32, 24), rng).intrinsics.fx for _ in range(40)]
    widest = 64 / clip.intrinsics.fx
    assert widest * 0.5 <= min(angles) < widest * 0.6
    assert widest * 0.9 < max(angles) <= widest * 1.001
