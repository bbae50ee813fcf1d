import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.training.worlds import (
    HELD_BACK,
    KINDS,
    CameraEffects,
    Handling,
    WorldConfig,
    sample_batch,
    sample_sequence,
)

SIZE = (48, 36)


@settings(max_examples=10)
@given(seed=st.integers(0, 2 * HELD_BACK))
def test_a_sequence_is_what_it_says(seed):
    views = sample_sequence(seed, 3, SIZE)
    assert views.images.shape == (3, 3, 36, 48)
    assert views.images.dtype == views.depth.dtype == torch.float32
    assert 0 <= float(views.images.min()) < float(views.images.max()) <= 1
    assert views.depth.shape == (3, 36, 48)
    assert bool(views.depth.isfinite().all())
    assert float(views.depth.min()) >= 0
    assert views.camera_to_world.dtype == torch.float64
    assert torch.equal(views.camera_to_world[0], torch.eye(4, dtype=torch.float64))
    angle = 2 * np.degrees(np.arctan(24 / views.intrinsics.fx))
    assert 45 <= angle <= 90
    assert (views.intrinsics.width, views.intrinsics.height) == SIZE


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_a_sequence(kind):
    first, again, other = (sample_sequence(seed, 2, SIZE, kind) for seed in (8, 8, 9))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.depth, again.depth)
    assert torch.equal(first.camera_to_world, again.camera_to_world)
    assert first.intrinsics == again.intrinsics
    assert not torch.equal(first.depth, other.depth)


def test_photometry_leaves_the_truth_alone():
    clean, disturbed = (sample_sequence(4, 2, SIZE, photometric=on) for on in (False, True))
    assert torch.equal(clean.depth, disturbed.depth)
    assert not torch.equal(clean.images, disturbed.images)


def test_handling_and_effects_are_part_of_a_sequence():
    handling = Handling(shake=1.0, hesitation=1.0, sideways=1.0, closeups=0.3, photos=0.3)
    effects = CameraEffects(1.0, 1.0, 1.0, 1.0)
    for seed in range(4):
        plain = sample_sequence(seed, 3, SIZE, stride=4)
        first, again = (
            sample_sequence(seed, 3, SIZE, stride=4, handling=handling, effects=effects)
            for _ in range(2)
        )
        assert torch.equal(first.images, again.images)
        assert torch.equal(first.camera_to_world, again.camera_to_world)
        assert not torch.equal(first.camera_to_world, plain.camera_to_world)
        assert torch.equal(first.camera_to_world[0], torch.eye(4, dtype=torch.float64))
        assert bool(first.images.isfinite().all())


def test_one_view_has_effects_too():
    views = sample_sequence(1, 1, SIZE, effects=CameraEffects(1.0, 1.0, 1.0, 1.0))
    assert views.images.shape == (1, 3, 36, 48)


def test_what_is_off_changes_nothing():
    """Numbers measured on held-back worlds hold only as long as the worlds stay what they are."""
    plain = sample_sequence(HELD_BACK, 3, SIZE, stride=2)
    off = sample_sequence(
        HELD_BACK, 3, SIZE, stride=2, handling=Handling(), effects=CameraEffects()
    )
    assert torch.equal(plain.images, off.images)
    assert torch.equal(plain.camera_to_world, off.camera_to_world)


def test_stride_leaves_views_out():
    every = sample_sequence(6, 10, SIZE, "room", photometric=False)
    third = sample_sequence(6, 4, SIZE, "room", stride=3, photometric=False)
    assert third.camera_to_world.shape == (4, 4, 4)
    assert float(third.camera_to_world[1, :3, 3].norm()) > float(
        every.camera_to_world[1, :3, 3].norm()
    )


def test_a_batch_is_its_sequences():
    batch = sample_batch([1, 2, 3], 2, SIZE)
    for seed, views in zip([1, 2, 3], batch, strict=True):
        alone = sample_sequence(seed, 2, SIZE)
        assert torch.allclose(alone.depth, views.depth, rtol=1e-6)
        assert torch.allclose(alone.camera_to_world, views.camera_to_world)
        assert alone.intrinsics == views.intrinsics


def test_the_config_decides_where_arguments_do_not():
    config = WorldConfig(kind="street", clutter=0)
    views = sample_sequence(3, 2, SIZE, config=config)
    assert bool((views.depth == 0).any())  # sky


@pytest.mark.gpu
def test_a_gpu_renders_what_a_cpu_renders():
    for kind in KINDS:
        cpu = sample_sequence(5, 4, (128, 96), kind, photometric=False)
        gpu = sample_sequence(5, 4, (128, 96), kind, "cuda", photometric=False)
        agrees = torch.isclose(gpu.depth.cpu(), cpu.depth, rtol=1e-4)
        assert float(agrees.float().mean()) > 0.999
        assert float((gpu.images.cpu() - cpu.images).abs().mean()) < 1e-3
