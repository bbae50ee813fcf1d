import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry.pose import relative_pose, rotation_angle
from mem3r_plugin.training.worlds import KINDS, STYLES, WorldConfig, generate_world, sample_path
from mem3r_plugin.training.worlds.handling import Handling
from mem3r_plugin.training.worlds.paths import choose_style, clearance

GOES = {
    "room": ("handheld", "walk", "orbit", "closeup", "photos"),
    "corridor": ("handheld", "walk", "drive", "loop", "photos"),
    "street": ("handheld", "walk", "drive", "loop", "photos"),
    "loop": ("handheld", "walk", "drive", "loop", "photos"),
}
LIVELY = Handling(shake=1.0, hesitation=1.0, sideways=1.0)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), data=st.data())
def test_paths_are_rigid_smooth_and_touch_nothing(kind, seed, data):
    world = generate_world(kind, seed)
    style = data.draw(st.sampled_from((None, *set(GOES[kind]) - {"photos"})))
    handling = data.draw(st.sampled_from((None, LIVELY)))
    poses = sample_path(world, 80, seed, style, handling).numpy()
    rotations, positions = poses[:, :3, :3], poses[:, :3, 3]
    np.testing.assert_allclose(rotations @ rotations.mT, np.tile(np.eye(3), (80, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0.0, 0, 0, 1], (80, 1)))
    steps = relative_pose(poses[:-1], poses[1:])
    assert np.degrees(rotation_angle(steps[:, :3, :3])).max() < 8
    assert np.linalg.norm(steps[:, :3, 3], axis=1).max() < 1.3
    assert clearance(world, positions).min() > 0.15
    assert float(world.primitives.distance(torch.from_numpy(positions)).min()) > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_photographs_are_taken_far_apart_and_touch_nothing(kind, seed):
    world = generate_world(WorldConfig(kind, length=80), seed)
    poses = sample_path(world, 24, seed, "photos").numpy()
    steps = relative_pose(poses[:-1], poses[1:])
    assert 0.15 < np.median(np.linalg.norm(steps[:, :3, 3], axis=1)) < 3
    assert 5 < np.median(np.degrees(rotation_angle(steps[:, :3, :3]))) < 60
    assert clearance(world, poses[:, :3, 3]).min() > 0.15


def test_closeups_look_at_a_thing_at_arms_length():
    near = 0
    for seed in range(12):
        world = generate_world("room", seed)
        poses = sample_path(world, 60, seed, "closeup").numpy()
        position, ahead = poses[:, :2, 3], poses[:, :2, 2]
        for thing in world.obstacles:
            towards = thing.centre[:2] - position
            distance = np.linalg.norm(towards, axis=1)
            aimed = (towards * ahead).sum(1) > 0.9 * distance * np.linalg.norm(ahead, axis=1)
            reach = np.hypot(*thing.half[:2])
            near += bool(aimed.all() and (distance < reach + 1.1).all())
    assert near >= 8


def test_handling_that_is_off_changes_nothing():
    for kind in KINDS:
        world = generate_world(kind, 3)
        assert torch.equal(sample_path(world, 30, 3), sample_path(world, 30, 3, None, Handling()))


def test_tilted_cameras_look_down_in_rooms_and_a_little_aside_elsewhere():
    def lowered(kind, style):
        angles = []
        for seed in range(12):
            world = generate_world(kind, seed)
            usual, tilted = (
                sample_path(world, 20, seed, style, Handling(tilted=share)) for share in (0.0, 1.0)
            )
            assert torch.equal(usual[:, :3, 3], tilted[:, :3, 3])
            up = torch.asin(tilted[:, 2, 2]) - torch.asin(usual[:, 2, 2])
            assert float(up.max() - up.min()) < 1e-6
            angles.append(float(up[0]))
        return np.array(angles)

    held, driven = lowered("room", "handheld"), lowered("street", "drive")
    assert (held > -0.51).all()
    assert (held < -0.09).all()
    assert np.abs(driven).max() < 0.13
    assert driven.min() < 0 < driven.max()


def test_shares_of_styles_are_as_asked():
    handling = Handling(closeups=0.3, photos=0.2)
    styles = [choose_style("room", seed, handling) for seed in range(500)]
    assert styles.count("photos") / 500 == pytest.approx(0.2, abs=0.05)
    assert styles.count("closeup") / 500 == pytest.approx(0.3, abs=0.05)
    street = [choose_style("street", seed, handling) for seed in range(200)]
    assert "closeup" not in street
    assert "photos" in street
    assert {choose_style("loop", seed, handling) for seed in range(50)} == {"loop"}


def test_cameras_are_carried_upright():
    poses = sample_path(generate_world("corridor", 0), 50, 0)
    assert float(poses[:, 2, 1].max()) < -0.8  # the camera's y axis points down


def test_a_seed_is_a_path():
    world = generate_world("room", 1)
    assert torch.equal(sample_path(world, 30, 4), sample_path(world, 30, 4))
    assert not torch.equal(sample_path(world, 30, 4), sample_path(world, 30, 5))


@pytest.mark.parametrize("seed", range(4))
def test_loops_come_round_to_their_start(seed):
    world = generate_world(WorldConfig("loop", length=40), seed)
    positions = sample_path(world, 1000, seed)[:, :3, 3]
    from_start = (positions - positions[0]).norm(dim=1)
    assert float(from_start[:500].max()) > 4
    assert float(from_start[500:].min()) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_frames_stay_in_the_world(kind):
    world = generate_world(WorldConfig(kind, length=60), 7)
    positions = sample_path(world, 1000, 7)[:, :3, 3].numpy()
    low, high = world.floor
    margin = 0 if kind == "room" else 1
    assert (positions[:, :2] > low[:2] - margin).all()
    assert (positions[:, :2] < high[:2] + margin).all()
    assert clearance(world, positions).min() > 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_styles_that_do_not_go_with_a_world_are_refused(kind):
    world = generate_world(kind, 0)
    for style in set(STYLES) - set(GOES[kind]):
        with pytest.raises(ConfigError, match=f"'{style}' does not go"):
            sample_path(world, 5, 0, style)
    with pytest.raises(ConfigError, match="unknown path style 'hop'"):
        sample_path(world, 5, 0, "hop")  # type: ignore[arg-type]
