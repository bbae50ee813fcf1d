from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds import disturb
from mem3r_plugin.training.worlds.effects import CameraEffects, _exposed, pixel_motion, take

CAMERA = Intrinsics(60.0, 60.0, 32.0, 24.0, 64, 48)


def moved(translation: tuple[float, float, float], rotation: tuple[float, float, float]):
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(rotation).as_matrix()
    motion[:3, 3] = translation
    return torch.from_numpy(motion)[None]


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth pictures and their depth."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 12, 16, generator=generator)
    depth = 1 + 3 * torch.rand(2, 1, 3, 4, generator=generator)
    images, depth = (
        torch.nn.functional.interpolate(each, (48, 64), mode="bicubic").clamp(min=0)
        for each in (images, depth)
    )
    return images.clamp(max=1), depth[:, 0]


def test_pixels_move_as_the_points_they_show():
    motion = moved((0.05, -0.02, 0.1), (0.01, -0.02, 0.03))
    depth = scene()[1][:1]
    flow = pixel_motion(depth, motion, CAMERA)[0].permute(1, 2, 0).numpy()
    points = CAMERA.unproject(CAMERA.pixel_centres(), depth[0].numpy())
    back = np.linalg.inv(motion[0].numpy())
    later = points @ back[:3, :3].T + back[:3, 3]
    expected = 60 * later[..., :2] / later[..., 2:] + (32, 24) - CAMERA.pixel_centres()
    np.testing.assert_allclose(flow, expected, atol=1e-4)


def test_the_sky_only_turns():
    sky = torch.zeros(1, 48, 64)
    assert float(pixel_motion(sky, moved((0.1, 0, 0), (0, 0, 0)), CAMERA).abs().max()) < 0.01
    turned = pixel_motion(sky, moved((0, 0, 0), (0, 0.02, 0)), CAMERA)
    assert float(turned[0, 0].max()) < -1.1


def line(column: int) -> torch.Tensor:
    image = torch.zeros(1, 3, 48, 64)
    image[..., column] = 1
    return image


def test_long_exposures_spread_what_moves_around_where_it_is():
    flow = torch.zeros(1, 2, 48, 64)
    flow[:, 0] = 6.0
    across = _exposed(line(30), flow, exposure=1.0, readout=0.0)[0, 0, 20]
    columns = torch.arange(64)
    mean = float((across * columns).sum() / across.sum())
    spread = float((across * (columns - mean) ** 2).sum() / across.sum()) ** 0.5
    assert mean == pytest.approx(30, abs=1e-3)
    assert spread == pytest.approx(6 / 12**0.5, rel=0.1)
    assert float(across.sum()) == pytest.approx(1, abs=1e-3)


def test_rows_read_later_show_what_moved_on():
    flow = torch.zeros(1, 2, 48, 64)
    flow[:, 0] = 8.0
    rolled = _exposed(line(30), flow, exposure=0.0, readout=1.0)[0, 0]
    centre = (rolled * torch.arange(64)).sum(1) / rolled.sum(1)
    assert float(centre[24]) == pytest.approx(30, abs=0.2)
    assert float(centre[-1] - centre[0]) == pytest.approx(8 * 47 / 48, abs=0.3)


@pytest.mark.parametrize("name", [field.name for field in fields(CameraEffects)])
def test_each_effect_changes_pictures_by_itself_and_little(name):
    images, depth = scene()
    motion = moved((0.02, 0, 0.01), (0, 0.02, 0)).expand(2, 4, 4)
    taken = take(images, depth, motion, CAMERA, 5, CameraEffects(**{name: 1.0}), stride=4)
    without = disturb(images, 5)
    assert taken.shape == images.shape
    assert taken.dtype == torch.float32
    assert 0 <= float(taken.min()) < float(taken.max()) <= 1
    assert 1e-5 < float((taken - without).abs().mean()) < 0.1


def test_without_effects_pictures_are_disturbed_as_ever():
    images, depth = scene()
    motion = moved((0.1, 0, 0), (0, 0.05, 0)).expand(2, 4, 4)
    taken = take(images, depth, motion, CAMERA, 5, CameraEffects())
    assert torch.equal(taken, disturb(images, 5))


def test_a_seed_is_an_effect():
    images, depth = scene()
    motion = moved((0.1, 0, 0), (0, 0.05, 0)).expand(2, 4, 4)
    everything = CameraEffects(1.0, 1.0, 1.0, 1.0)
    first, again, other = (
        take(images, depth, motion, CAMERA, seed, everything) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_impossible_values_are_refused():
    with pytest.raises(ConfigError, match=r"jpeg = 2: must lie between 0 and 1"):
        CameraEffects(jpeg=2)
