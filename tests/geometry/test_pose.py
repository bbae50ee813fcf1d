import numpy as np
import pycolmap
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import (
    ResetChain,
    invert_pose,
    pose_matrix,
    quaternion_from_rotation,
    relative_pose,
    rotation_angle,
    rotation_from_quaternion,
    transform_points,
)
from tests.geometry.strategies import points, poses, quaternions, rotations
from tests.golden_functions import golden_functions


@given(quaternion=quaternions(), scale=st.floats(0.1, 10))
def test_quaternions_give_rotations_to_the_last_bits(quaternion: FloatArray, scale: float) -> None:
    rotation = rotation_from_quaternion(quaternion * scale)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    assert abs(np.linalg.det(rotation) - 1) < 1e-14


@given(quaternion=quaternions())
def test_the_quaternion_is_colmaps_with_w_first(quaternion: FloatArray) -> None:
    colmap = pycolmap.Rotation3d(np.roll(quaternion, -1))
    np.testing.assert_allclose(rotation_from_quaternion(quaternion), colmap.matrix(), atol=1e-12)


@given(quaternion=quaternions())
def test_quaternions_come_back_with_positive_w(quaternion: FloatArray) -> None:
    back = quaternion_from_rotation(rotation_from_quaternion(quaternion))
    assert back[0] >= 0
    np.testing.assert_allclose(back * np.sign(back @ quaternion), quaternion, atol=1e-12)


@given(stack=st.lists(quaternions(), min_size=1, max_size=5).map(np.stack))
def test_stacks_are_converted_one_by_one(stack: FloatArray) -> None:
    rotation = rotation_from_quaternion(stack)
    np.testing.assert_array_equal(rotation, [rotation_from_quaternion(q) for q in stack])
    np.testing.assert_array_equal(
        quaternion_from_rotation(rotation), [quaternion_from_rotation(r) for r in rotation]
    )


@given(pose=poses, cloud=points())
def test_the_inverse_takes_points_back(pose: FloatArray, cloud: FloatArray) -> None:
    back = transform_points(invert_pose(pose), transform_points(pose, cloud))
    np.testing.assert_allclose(back, cloud, atol=1e-12)


@given(first=poses, second=poses)
def test_a_relative_pose_leads_from_the_first_to_the_second(
    first: FloatArray, second: FloatArray
) -> None:
    np.testing.assert_allclose(first @ relative_pose(first, second), second, atol=1e-12)
    stack = relative_pose(np.stack([first, second]), np.stack([second, second]))
    np.testing.assert_allclose(stack[1], np.eye(4), atol=1e-12)


def test_camera_to_world_puts_the_camera_at_its_translation() -> None:
    pose = pose_matrix(rotation_from_quaternion([np.sqrt(0.5), 0, np.sqrt(0.5), 0]), [1, 2, 3])
    np.testing.assert_allclose(transform_points(pose, np.zeros(3)), [1, 2, 3])
    # A quarter turn about y (down) turns the view to the right: z forward becomes x.
    np.testing.assert_allclose(transform_points(pose, np.array([0.0, 0, 1])), [2, 2, 3], atol=1e-15)


@given(angle=st.floats(0, np.pi), rotation=rotations)
def test_rotation_angle(angle: float, rotation: FloatArray) -> None:
    about_x = rotation_from_quaternion([np.cos(angle / 2), np.sin(angle / 2), 0.0, 0.0])
    measured = rotation_angle(rotation @ about_x @ rotation.T)
    np.testing.assert_allclose(measured, angle, atol=1e-7)


def test_rotation_angle_sees_tiny_turns() -> None:
    tiny = rotation_from_quaternion([1.0, 5e-11, 0.0, 0.0])
    np.testing.assert_allclose(rotation_angle(tiny), 1e-10, rtol=1e-6)


def test_reset_chain_matches_the_reference() -> None:
    golden = golden_functions()
    chain = ResetChain()
    placed = [
        chain.place(pose.astype(np.float64), bool(reset))
        for pose, reset in zip(golden["chain.c2w_in"], golden["chain.reset_after"], strict=True)
    ]
    np.testing.assert_allclose(np.stack(placed), golden["chain.c2w_out"], atol=1e-6)


@given(path=st.lists(poses, min_size=2, max_size=8), data=st.data())
def test_reset_chain_restores_a_path_cut_into_chunks(
    path: list[FloatArray], data: st.DataObject
) -> None:
    """Each chunk is told in the camera of its first frame, the frame the reset came behind."""
    resets = data.draw(st.lists(st.booleans(), min_size=len(path), max_size=len(path)))
    chain, world = ResetChain(), path[0]
    for pose, reset in zip(path, resets, strict=True):
        chain = ResetChain(chain.base.copy())  # saved and loaded in between
        placed = chain.place(relative_pose(world, pose), reset)
        np.testing.assert_allclose(placed, relative_pose(path[0], pose), atol=1e-9)
        world = pose if reset else world
