from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds import KINDS, WorldConfig, generate_world, sample_path
from mem3r_plugin.training.worlds.builder import Builder
from mem3r_plugin.training.worlds.paths import clearance
from mem3r_plugin.training.worlds.scenes import choose_kind, offset_way
from mem3r_plugin.training.worlds.textures import texture_pool

CAMERA = Intrinsics.centred(60.0, 64, 48)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_a_world(kind):
    first, again, other = (generate_world(kind, seed).primitives for seed in (5, 5, 6))
    for name, values in vars(first).items():
        assert torch.equal(values, getattr(again, name)), name
    assert len(first) != len(other) or not torch.equal(first.centre, other.centre)


def test_every_kind_is_drawn():
    assert {choose_kind(seed) for seed in range(100)} == set(KINDS)
    assert generate_world(WorldConfig(), 3).kind == choose_kind(3)


@pytest.mark.parametrize("seed", range(5))
def test_rooms_have_the_size_of_rooms(seed):
    low, high = generate_world("room", seed).floor
    width, depth, height = high - low
    assert 3 <= width <= 8
    assert 3 <= depth <= 8
    assert 2.4 <= height <= 3.2


@pytest.mark.parametrize("seed", range(5))
def test_houses_have_the_height_of_houses(seed):
    corners = generate_world("street", seed).primitives.corners()
    assert 5 <= float(corners[..., 2].max()) <= 18


def test_clutter_fills_a_room():
    sizes = [len(generate_world(WorldConfig("room", clutter=c), 4).primitives) for c in (0, 1, 3)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("sobriety", [0.0, 1.0])
def test_furniture_stands_inside_its_room(sobriety):
    for seed in range(10):
        world = generate_world(WorldConfig("room", sobriety=sobriety), seed)
        low, high = world.floor
        corners = world.primitives.corners()[..., :2].flatten(0, 1).numpy()
        assert (corners >= low[:2] - 0.15).all()
        assert (corners <= high[:2] + 0.15).all()


@pytest.mark.parametrize("kind", ["street", "loop"])
def test_gardens_keep_roads_free_and_leave_the_sky_open(kind):
    seeds = [seed for seed in range(12) if generate_world(kind, seed).lighting.sky.any()]
    sky = []
    for greenery in (0.0, 1.0):
        share = []
        for seed in seeds:
            world = generate_world(WorldConfig(kind, greenery=greenery), seed)
            path = sample_path(world, 60, seed)
            assert clearance(world, path[:, :3, 3].numpy()).min() > 0
            depth = world.render(path[::20], CAMERA).depth
            share.append(float((depth == 0).float().mean()))
            assert float(depth[depth > 0].min()) > 0.2  # nothing grows into the camera
        sky.append(np.mean(share))
    assert sky[1] > 1.2 * sky[0]


def test_sober_surfaces_are_plain_and_muted(tmp_path):
    Image.new("RGB", (64, 64), (255, 128, 0)).save(tmp_path / "orange.png")
    pool = texture_pool(tmp_path, "cpu")

    def draw(sober, **how):
        builder = Builder(np.random.default_rng(0), pool, 0.5, sober)
        return [builder.material("checker", "plain", **how) for _ in range(300)]

    lively, sober = draw(False), draw(True)
    saturation = [np.mean([np.ptp(each.palette[0]) for each in group]) for group in (lively, sober)]
    assert saturation[1] < 0.7 * saturation[0]
    photo, checker = ({*pool.indices[name]} for name in ("photo", "checker"))
    assert any(each.texture in photo for each in lively)
    assert not any(each.texture in photo for each in sober)  # none but hung on walls
    assert sum(each.texture in checker for each in sober) < 50


def test_pictures_of_a_folder_become_textures(tmp_path):
    Image.new("RGB", (64, 64), (255, 128, 0)).save(tmp_path / "orange.png")
    world = generate_world(WorldConfig("room", textures=tmp_path, photo_share=1.0), 0)
    assert "photo" in world.pool.names


@pytest.mark.parametrize("kind", KINDS)
def test_things_stand_in_worlds_and_leave_paths_free(kind, things_folder):
    config = WorldConfig(kind, things=things_folder, thing_share=1.0)
    for seed in range(3):
        world, again = (generate_world(config, seed) for _ in range(2))
        if world.meshes is None or again.meshes is None:  # a narrow corridor has no furniture
            assert kind in ("corridor", "loop")
            continue
        assert np.array_equal(world.meshes.corners, again.meshes.corners)
        assert world.meshes.corners[..., 2].min() > -1e-6  # on the floor
        path = sample_path(world, 40, seed)
        assert clearance(world, path[:, :3, 3].numpy()).min() > 0
        views = world.render(path[::20], CAMERA)
        bare = replace(world, meshes=None).render(path[::20], CAMERA)
        nearer = (views.depth < bare.depth) | ((bare.depth == 0) & (views.depth > 0))
        assert torch.equal(views.depth != bare.depth, nearer)  # things only hide what is behind


def test_worlds_without_things_stay_what_they_were(things_folder):
    share = {
        seed: generate_world(WorldConfig("room", things=things_folder, thing_share=0.5), seed)
        for seed in range(8)
    }
    furnished = [seed for seed, world in share.items() if world.meshes is not None]
    assert 0 < len(furnished) < 8
    for seed, world in share.items():
        plain = generate_world("room", seed).primitives
        same = len(plain) == len(world.primitives) and torch.equal(
            plain.surface, world.primitives.surface
        )
        assert same == (seed not in furnished)


def test_a_folder_without_things_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"holds no things .* `mem3r things .*` fetches some"):
        generate_world(WorldConfig("room", things=tmp_path), 0)


def test_an_unknown_kind_is_named():
    with pytest.raises(ConfigError, match="'swamp'; choose one of room"):
        generate_world("swamp", 0)  # type: ignore[arg-type]


@given(
    sides=st.tuples(st.floats(5, 50), st.floats(5, 50)),
    distance=st.floats(-2, 2),
)
def test_offset_of_a_rectangle_is_a_rectangle_at_that_distance(sides, distance):
    width, depth = sides
    ring = np.array([[0, 0], [width, 0], [width, depth], [0, depth]])
    inner = offset_way(ring, distance, closed=True)  # its left is inside
    shift = distance * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    np.testing.assert_allclose(inner, ring + shift, atol=1e-9)
