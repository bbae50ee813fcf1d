import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import rotation_from_quaternion
from mem3r_plugin.training.worlds.builder import Builder
from mem3r_plugin.training.worlds.primitives import Primitives, Shape
from mem3r_plugin.training.worlds.render import render
from mem3r_plugin.training.worlds.scenes import generate_world
from mem3r_plugin.training.worlds.textures import texture_pool
from tests.training.worlds.reference import depth_by_reference

CAMERA = Intrinsics(70.0, 65.0, 31.0, 26.0, 67, 50)


def one_shape(shape: Shape, seed: int) -> Primitives:
    """One shape of random size, place and orientation in front of a camera at the origin."""
    rng = np.random.default_rng(seed)
    builder = Builder(rng, texture_pool())
    half = rng.uniform(0.2, 2.0, 3)
    centre = np.array([*rng.uniform(-1, 1, 2), rng.uniform(0.5, 8.0)])
    axes = rotation_from_quaternion(rng.normal(size=4))
    if shape <= Shape.DISC:
        half[2] = 0
        if axes[2] @ centre > 0:  # turn its visible side to the camera
            axes[1:] *= -1
    builder._add(shape, centre, axes, half, builder.material("tiles"), (0.0, 0.0, 0.0, 0.0))
    return builder.primitives("cpu")


def depth_of(primitives: Primitives) -> np.ndarray:
    world = generate_world("corridor", 0)
    pose = torch.eye(4, dtype=torch.float64)[None, None]
    _, depth = render([primitives], [world.lighting], world.pool, pose, [CAMERA])
    return depth[0, 0].numpy()


@pytest.mark.parametrize("shape", list(Shape))
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_depth_of_one_shape_is_that_of_the_formula(shape, seed):
    primitives = one_shape(shape, seed)
    expected = depth_by_reference(primitives, torch.eye(4, dtype=torch.float64), CAMERA)
    depth = depth_of(primitives)
    both = (depth > 0) & np.isfinite(expected)
    # Pixels whose centre lies on the outline to within float32 may fall on either side of it.
    assert (both != ((depth > 0) | np.isfinite(expected))).sum() <= 2
    # Close to the outline of a round shape depth is the square root of next to nothing.
    tolerance = 1e-5 if shape <= Shape.DISC else 2e-3
    np.testing.assert_allclose(depth[both], expected[both], rtol=tolerance)


def test_shapes_fill_the_picture_often_enough_to_mean_something():
    covered = [
        (depth_of(one_shape(shape, seed)) > 0).mean() for shape in Shape for seed in range(8)
    ]
    assert np.mean(covered) > 0.1


def test_flat_shapes_are_seen_from_one_side_only():
    builder = Builder(np.random.default_rng(0), texture_pool())
    x, y, z = np.eye(3)
    builder.flat(
        3 * z, x, y, (2, 2), builder.material("plain")
    )  # seen from +z, the camera is at -z
    assert not depth_of(builder.primitives("cpu")).any()


def test_distance_is_that_to_the_box():
    builder = Builder(np.random.default_rng(0), texture_pool())
    builder.ball(np.array([1.0, 2.0, 3.0]), (0.5, 1.0, 1.5), builder.material("plain"))
    points = torch.tensor([[1.0, 2.0, 3.0], [3.5, 2.0, 3.0], [1.0, 6.0, 7.5]], dtype=torch.float64)
    distance = builder.primitives("cpu").distance(points)[:, 0]
    np.testing.assert_allclose(distance, [0.0, 2.0, np.hypot(3.0, 3.0)])
