import numpy as np
import pytest
import torch
from PIL import Image

from mem3r_plugin.errors import SourceError
from mem3r_plugin.training.worlds.textures import (
    LEVELS,
    PATTERNS,
    SIZE,
    TexturePool,
    atlas_origin,
    texture_pool,
)


def sample(
    pool: TexturePool, texture: int, u: torch.Tensor, v: torch.Tensor, level: float
) -> torch.Tensor:
    origin = torch.from_numpy(atlas_origin(np.full(len(u), texture)).T).float()
    return pool.sample(origin, u, v, torch.full_like(u, level))


def texels(pool: TexturePool, texture: int) -> torch.Tensor:
    """The finest level (3, SIZE, SIZE), through the look-up."""
    v, u = torch.meshgrid(*[(torch.arange(SIZE) + 0.5) / SIZE] * 2, indexing="ij")
    return sample(pool, texture, u.flatten(), v.flatten(), 0.0).view(3, SIZE, SIZE)


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_weights_that_vary(name):
    pool = texture_pool()
    for texture in pool.indices[name][:2]:
        weights = texels(pool, texture)
        assert float(weights.min()) >= 0
        assert float(weights.max()) <= 1
        assert float(weights.std()) > 0.005


@pytest.mark.parametrize("level", [0.0, 1.0, 3.5, LEVELS - 1.0])
def test_textures_repeat(level):
    pool = texture_pool()
    u, v = torch.rand(2, 200, generator=torch.Generator().manual_seed(0))
    once = sample(pool, 17, u, v, level)
    again = sample(pool, 17, u + 3, v - 2, level)
    assert torch.allclose(once, again, atol=1e-3)


def test_textures_have_no_seam():
    pool = texture_pool()
    v = torch.rand(100, generator=torch.Generator().manual_seed(0))
    for texture in range(0, len(pool.names), 7):
        before = sample(pool, texture, torch.full_like(v, 1 - 1e-5), v, 0.0)
        after = sample(pool, texture, torch.full_like(v, 1e-5), v, 0.0)
        assert torch.allclose(before, after, atol=1e-2)


def test_every_level_has_the_mean_of_the_finest():
    pool = texture_pool()
    for texture in range(0, len(pool.names), 11):
        mean = texels(pool, texture).mean((1, 2))
        for level in range(1, LEVELS):
            side = SIZE >> level
            v, u = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
            values = sample(pool, texture, u.flatten(), v.flatten(), float(level))
            assert torch.allclose(values.mean(1), mean, atol=2e-3)


def test_pictures_of_a_folder_are_used_as_they_are(tmp_path):
    Image.new("RGB", (300, 200), (255, 128, 0)).save(tmp_path / "orange.png")
    pool = texture_pool(tmp_path)
    (photo,) = pool.indices["photo"]
    assert torch.allclose(
        texels(pool, photo).mean((1, 2)), torch.tensor([1, 128 / 255, 0]), atol=1e-3
    )


def test_folders_that_cannot_serve_are_named(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        texture_pool(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="holds no pictures"):
        texture_pool(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"broken\.png cannot be read"):
        texture_pool(tmp_path)
