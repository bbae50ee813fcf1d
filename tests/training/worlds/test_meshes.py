"""Meshes are seen where the formulas of boxes say, from outside and inside, and hide lamps."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds import surfaces
from mem3r_plugin.training.worlds.builder import Builder, turn
from mem3r_plugin.training.worlds.meshes import Meshes
from mem3r_plugin.training.worlds.render import Lighting, render
from mem3r_plugin.training.worlds.surfaces import Material, pack_skins
from mem3r_plugin.training.worlds.textures import SIZE, TexturePool, texture_pool
from mem3r_plugin.training.worlds.things import Thing, Things

pytest.importorskip("open3d", reason="needs Open3D")

CAMERA = Intrinsics(80.0, 84.0, 60.0, 47.0, 121, 90)
CORNERS = np.array([[x, y, z] for z in (0, 1) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
FACES = np.array(
    [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
)
"""The corners of each side; a side is two triangles."""
CRATE = Thing(
    "crate",
    "Miscellaneous",
    (1.0, 1.0, 1.0),
    0.0,
    None,
    CORNERS.astype(np.float32),
    FACES[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32),
    np.zeros((12, 3, 2), dtype=np.float32),
    np.zeros(12, dtype=np.int32),
    np.ones((1, 3), dtype=np.float32),
    np.zeros(1, dtype=np.int32),
)
DARK = Lighting(
    position=torch.zeros(2, 3),
    colour=torch.zeros(2, 3),
    reach=torch.ones(2),
    ambient=torch.ones(3),
    sky=torch.ones(2, 3),
)
"""No lamp, only light from all around."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> TexturePool:
    skin = tmp_path_factory.mktemp("skins") / "000.png"
    pixels = np.full((SIZE, SIZE, 3), 60, dtype=np.uint8)
    pixels[: SIZE // 2, : SIZE // 2] = (250, 10, 10)  # red, above on the left
    Image.fromarray(pixels).save(skin)
    white = skin.with_name("001.png")
    Image.new("RGB", (SIZE, SIZE), (255, 255, 255)).save(white)
    return texture_pool(None, "cpu", (skin, white))


def builder(pool: TexturePool) -> Builder:
    return Builder(np.random.default_rng(0), pool, things=Things((CRATE,), ()))


def poses(count: int) -> torch.Tensor:
    """Cameras around the origin, 3 m away, that look roughly at it."""
    rng = np.random.default_rng(1)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, random_state=2).as_matrix()
    poses[:, :3, 3] = -3 * poses[:, :3, 2] + rng.normal(0, 0.2, (count, 3))
    return torch.from_numpy(poses)


def seen(made: Builder, cameras: torch.Tensor, lighting: Lighting = DARK) -> tuple:
    """Pictures (T, 3, H, W) and depth (T, H, W)."""
    images, depth = render(
        [made.primitives("cpu")],
        [lighting],
        made.pool,
        cameras[None],
        [CAMERA],
        meshes=[made.meshes()],
    )
    return images[0], depth[0]


def speck(made: Builder) -> None:
    """Something far below, because a world has at least one primitive."""
    x, y, _ = np.eye(3)
    made.flat(np.array([0, 0, -1e4]), x, y, (1, 1), made.material("plain"))


def test_a_mesh_is_seen_where_the_formulas_of_a_box_say(pool):
    size, yaw, base = (0.8, 1.2, 0.5), 0.7, np.array([0.1, -0.2, -0.3])
    things, boxes = builder(pool), builder(pool)
    speck(things)
    things.thing(CRATE, base, yaw, size)
    speck(boxes)
    boxes.box(base + np.array([0, 0, size[2] / 2]), size, turn(yaw), boxes.material("plain"))
    _, mesh = seen(things, poses(12))
    _, box = seen(boxes, poses(12))
    assert ((mesh > 0) == (box > 0)).float().mean() > 0.998  # the rest lies on outlines
    both = (mesh > 0) & (box > 0)
    assert both.sum() > 5000
    torch.testing.assert_close(mesh[both], box[both], rtol=1e-4, atol=1e-4)


def test_the_nearer_of_mesh_and_primitive_is_seen(pool):
    made = builder(pool)
    facing = torch.eye(4, dtype=torch.float64)
    facing[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # along +y
    made.thing(CRATE, np.array([0, 4, -0.5]), 0.0, (1, 1, 1))
    right, up = np.eye(3)[0], np.eye(3)[2]
    made.flat(np.array([-5.0, 2.0, 0.0]), right, up, (10, 20), made.material("plain"))
    _, depth = seen(made, facing[None])
    assert depth[0, 47, 50] == pytest.approx(2.0)  # the wall on the left hides half of the crate
    assert depth[0, 47, 66] == pytest.approx(3.5)
    assert depth[0, 47, 110] == 0


def test_triangles_are_lit_from_the_side_they_are_seen_from(pool):
    meshes = Meshes(
        np.array([[[-1, 2, -1], [1, 2, -1], [0, 2, 1]]], dtype=np.float32),
        np.zeros((1, 3, 2), dtype=np.float32),
        np.zeros(1, dtype=np.int32),
        pack_skins(np.array([0]), np.ones((1, 3))),
    )
    for side in (0.0, 4.0):  # before it and behind it
        forward = 1.0 if side == 0 else -1.0
        rays = np.linalg.inv(CAMERA.matrix)
        rays = np.array([[forward, 0, 0], [0, 0, forward], [0, -1, 0]]) @ rays
        hits = meshes.seen(torch.tensor([0.0, side, 0.0]), torch.from_numpy(rays), 121, 90)
        assert len(hits.pixel) > 1000
        normals = hits.surface[:, surfaces.NORMAL]
        torch.testing.assert_close(normals, torch.tensor([0.0, -forward, 0.0]).expand_as(normals))


def test_textures_lie_as_their_coordinates_say(pool):
    square = np.array([[-1, 2, 1], [1, 2, 1], [1, 2, -1], [-1, 2, -1]], dtype=np.float32)
    corner = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    order = np.array([[0, 1, 2], [0, 2, 3]])
    picture = Thing(
        "picture", "Office", (2, 1, 2), 0.0, None, square, order.astype(np.int32), corner[order],
        np.zeros(2, np.int32), np.ones((1, 3), np.float32), np.zeros(1, np.int32),
    )  # fmt: skip
    made = builder(pool)
    speck(made)
    made.thing(picture, np.zeros(3), 0.0, (1, 1, 1))
    facing = torch.eye(4, dtype=torch.float64)
    facing[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    image, _ = seen(made, facing[None])
    above_left, below_right = image[0, :, 27, 40], image[0, :, 67, 80]
    assert above_left[0] > 5 * above_left[1]
    assert below_right[0] < 2 * below_right[1]


def test_things_cast_shadows(pool):
    light = Lighting(
        torch.tensor([[0.0, 0, 5], [0, 0, 5]]),
        torch.tensor([[1.0, 1, 1], [0, 0, 0]]),
        torch.full((2,), 1e9),
        torch.full((3,), 0.1),
        torch.ones(2, 3),
    )
    above = torch.eye(4, dtype=torch.float64)
    above[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    above[:3, 3] = torch.tensor([2.0, 0.0, 4.0])
    made = builder(pool)
    x, y, _ = np.eye(3)
    made.flat(np.zeros(3), x, y, (20, 20), Material(pool.indices["skin"][1], np.eye(3), (1, 1)))
    made.thing(CRATE, np.array([0, 0, 1.0]), 0.0, (1, 1, 1))  # floats a metre above the ground
    image, depth = seen(made, above[None], light)
    # The crate's top is 3 m below the lamp: its shadow reaches 5/3 of half a metre, 0.83 m.
    shaded, lit = ((CAMERA.fx * (x - 2) / 4 + CAMERA.cx) for x in (0.75, 0.95))
    row = int(CAMERA.cy)
    assert depth[0, row, int(shaded)] == pytest.approx(4.0)
    assert image[0, 0, row, int(lit)] > 3 * image[0, 0, row, int(shaded)]


def test_hits_do_not_depend_on_other_worlds_rendered_with_them(pool):
    made, other = builder(pool), builder(pool)
    for each in (made, other):
        speck(each)
    made.thing(CRATE, np.zeros(3), 0.3, (1, 1, 1))
    alone, _ = seen(made, poses(3))
    together, _ = render(
        [other.primitives("cpu"), made.primitives("cpu")],
        [DARK, DARK],
        pool,
        torch.stack([poses(3), poses(3)]),
        [CAMERA, CAMERA],
        meshes=[other.meshes(), made.meshes()],
    )
    assert torch.equal(together[1], alone)
    assert not torch.equal(together[0], alone)
