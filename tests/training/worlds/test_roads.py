import numpy as np
import pytest

from mem3r_plugin.training.worlds import WorldConfig, generate_world, roads
from mem3r_plugin.training.worlds.builder import Builder
from mem3r_plugin.training.worlds.roads import markings
from mem3r_plugin.training.worlds.textures import texture_pool

HEIGHTS = (roads._STRIP, roads._PATCH, roads._SHADOW, roads._LINE)


@pytest.mark.parametrize("seed", range(8))
def test_markings_lie_on_the_road(seed):
    builder = Builder(np.random.default_rng(seed), texture_pool(None, "cpu"), sober=True)
    markings(builder, np.array([2.0, 1.0]), np.array([2.0, 101.0]), road=8.0)
    assert builder._records
    primitives = builder.primitives("cpu")
    centre, corners = primitives.centre.numpy(), primitives.corners().flatten(0, 1).numpy()
    assert (centre[:, 2] > 0).all()
    assert (centre[:, 2] < 0.01).all()
    assert (np.abs(centre[:, 0] - 2) <= 4).all()
    assert (corners[:, 1] > 1 - 6).all()
    assert (corners[:, 1] < 101 + 6).all()
    assert not builder.obstacles


def test_only_sober_streets_are_marked():
    for seed in range(3):
        marked = []
        for sobriety in (0.0, 1.0):
            world = generate_world(WorldConfig("street", sobriety=sobriety), seed)
            height = world.primitives.centre[:, 2].double().numpy()
            laid = np.isclose(height[:, None], HEIGHTS, rtol=0, atol=1e-6).any(axis=1)
            marked.append(int(laid.sum()))
        assert marked[0] == 0
        assert marked[1] > 0
