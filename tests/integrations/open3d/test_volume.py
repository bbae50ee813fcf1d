import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2  # noqa: F401 - before Open3D
import numpy as np
import open3d as o3d
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mem3r_open3d.frames import DepthFrame
from mem3r_open3d.kernels import (
    BLOCK_SIZE,
    KEY_LIMIT,
    pack_keys,
    surface_cosine,
    touched_blocks,
    unpack_keys,
)
from mem3r_open3d.store import BlockStore
from mem3r_open3d.torch_voxels import TorchVoxels
from mem3r_open3d.volume import BlockVolume
from mem3r_open3d.voxels import NumbaVoxels, Voxels
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix, transform_points
from tests.integrations.open3d.rooms import CAMERA, VOXEL, all_blocks, fused, room_frame
from tests.room_scan import room_points, room_pose

TRUNCATION = 4 * VOXEL


@given(arrays.arrays(np.int64, (5, 3), elements=st.integers(-KEY_LIMIT, KEY_LIMIT - 1)))
def test_packed_keys_give_their_coordinates_back_in_the_same_order(coordinates):
    keys = pack_keys(coordinates)
    assert np.array_equal(unpack_keys(keys), coordinates)
    assert np.argsort(keys, kind="stable").tolist() == np.lexsort(coordinates.T[::-1]).tolist()


def camera_array():
    return np.array([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy])


@settings(max_examples=30)
@given(index=st.integers(0, 20), limit=st.integers(1, 400))
def test_touched_blocks_hold_every_surface_point_or_stop_at_the_limit(index, limit):
    pose = room_pose(index)
    frame = room_frame(index)
    length = BLOCK_SIZE * VOXEL
    keys = touched_blocks(frame.depth, camera_array(), pose, length, TRUNCATION, 1, 10**6)
    assert len(np.unique(keys)) == len(keys)
    points = room_points(CAMERA, pose).reshape(-1, 3)
    inside = np.floor(points / length).astype(int)
    near_edge = (np.abs(points / length - np.rint(points / length)) < 1e-4).any(axis=1)
    assert np.isin(pack_keys(inside[~near_edge]), keys).all()
    stopped = touched_blocks(frame.depth, camera_array(), pose, length, TRUNCATION, 1, limit)
    assert len(stopped) == min(len(keys), limit + 1)


@settings(max_examples=8)
@given(
    yaw=st.floats(-3, 3),
    x=st.floats(-1, 1),
    weights=st.lists(st.integers(1, 256), min_size=1, max_size=3),
)
def test_a_voxel_is_the_weighted_mean_of_what_the_frames_say(tmp_path_factory, yaw, x, weights):
    """Against the equations written out with NumPy, one voxel after the other."""
    turn = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    poses = [pose_matrix(turn, [x, 0.1 * i, 0.3]) for i in range(len(weights))]
    frames = [room_frame(0, pose, w / 256) for pose, w in zip(poses, weights, strict=True)]
    store = fused(tmp_path_factory.mktemp("fusion") / "a.tsdf", frames)
    volume = BlockVolume(VOXEL, TRUNCATION, store, 3_000)
    blocks = all_blocks(store)
    local = np.indices((BLOCK_SIZE,) * 3)[::-1].reshape(3, -1).T.astype(np.float64)
    centres = (unpack_keys(blocks.keys)[:, None] * BLOCK_SIZE + local + 0.5) * VOXEL
    total, distance = np.zeros((2, *blocks.tsdf.shape))
    colour = np.zeros((*blocks.tsdf.shape, 3))
    doubtful = np.zeros(blocks.tsdf.shape, bool)  # rounding decides which pixel, or whether at all
    for frame in frames:
        keys = volume.touched(frame)
        points = transform_points(invert_pose(frame.camera_to_world), centres)
        z = points[..., 2]
        pixels = np.divide(points[..., :2], z[..., None]) * [CAMERA.fx, CAMERA.fy]
        pixels += [CAMERA.cx, CAMERA.cy]
        doubtful |= (np.abs(pixels - np.rint(pixels)) < 1e-3).any(axis=-1)
        column, row = np.floor(pixels).astype(int).transpose(2, 0, 1)
        inside = (z > 0) & (column >= 0) & (row >= 0) & (column < 96) & (row < 72)
        row, column = np.where(inside, row, 0), np.where(inside, column, 0)
        rays = (np.stack([column, row], -1) + 0.5 - [CAMERA.cx, CAMERA.cy]) / [CAMERA.fx, CAMERA.fy]
        ahead = (frame.depth[row, column] - z) * np.sqrt(1 + (rays**2).sum(axis=-1))
        doubtful |= np.abs(ahead + TRUNCATION) < 1e-4
        seen = inside & (ahead >= -TRUNCATION) & np.isin(blocks.keys, keys)[:, None]
        weight = np.where(seen, frame.weight[row, column], 0)
        total += weight
        distance += weight * np.clip(ahead / TRUNCATION, -1, 1)
        colour += weight[..., None] * frame.image[row, column]
    sure = ~doubtful
    assert sure.mean() > 0.5
    assert np.array_equal(blocks.weight[sure], total[sure])
    known = sure & (total > 0)
    assert np.allclose(blocks.tsdf[known], (distance[known] / total[known]), atol=1e-4)
    assert np.allclose(blocks.color[known], colour[known] / total[known][:, None], atol=0.01)


def test_agrees_with_open3ds_own_integration(tmp_path: Path):
    frame = room_frame(3)
    blocks = all_blocks(fused(tmp_path / "a.tsdf", [frame]))
    edge, low = 160, -72  # the room in voxels
    volume = o3d.pipelines.integration.UniformTSDFVolume(
        edge * VOXEL,
        edge,
        TRUNCATION,
        o3d.pipelines.integration.TSDFVolumeColorType.RGB8,
        np.full((3, 1), low * VOXEL),
    )
    picture = o3d.geometry.RGBDImage.create_from_color_and_depth(
        o3d.geometry.Image(frame.image), o3d.geometry.Image(frame.depth), 1.0, 100.0, False
    )
    camera = o3d.camera.PinholeCameraIntrinsic(
        CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx - 0.5, CAMERA.cy - 0.5
    )
    volume.integrate(picture, camera, invert_pose(frame.camera_to_world))
    theirs = np.asarray(volume.extract_volume_tsdf()).reshape(edge, edge, edge, 2)
    local = np.indices((BLOCK_SIZE,) * 3)[::-1].reshape(3, -1).T
    place = unpack_keys(blocks.keys)[:, None] * BLOCK_SIZE + local - low
    tsdf, weight = np.moveaxis(theirs[tuple(np.moveaxis(place, -1, 0))], -1, 0)
    both = (weight > 0) & (blocks.weight > 0)
    assert both.sum() > 0.99 * max((weight > 0).sum(), (blocks.weight > 0).sum())
    assert np.quantile(np.abs(tsdf - blocks.tsdf)[both], 0.98) < 1e-4


@settings(max_examples=6)
@given(
    order=st.permutations(range(5)),
    staying=st.sets(st.integers(0, 4), min_size=1, max_size=4),
    weight=st.integers(1, 256),
)
def test_taking_frames_out_leaves_what_the_others_give(tmp_path_factory, order, staying, weight):
    folder = tmp_path_factory.mktemp("fusion")
    store = BlockStore(folder / "a.tsdf")
    volume = BlockVolume(VOXEL, TRUNCATION, store, 3_000)
    frames = [room_frame(3 * i, weight=weight / 256) for i in range(5)]
    for i in order:
        volume.integrate(frames[i])
    for i in order:
        if i not in staying:
            volume.integrate(frames[i], sign=-1.0)
    volume.flush()
    left = all_blocks(store)
    fresh = all_blocks(fused(folder / "b.tsdf", [frames[i] for i in sorted(staying)]))
    assert np.array_equal(left.keys, fresh.keys)
    assert np.array_equal(left.weight, fresh.weight)
    # A tenth of a voxel is 0.025 of the truncation.
    assert np.abs(left.tsdf - fresh.tsdf).max() < 1e-4
    assert np.abs(left.color - fresh.color).max() < 0.1


def narrow_frame(index: int) -> DepthFrame:
    """A frame that sees only what is in the middle of the picture."""
    frame = room_frame(index)
    frame.depth[:, :36] = 0
    frame.depth[:, 60:] = 0
    return frame


@pytest.mark.parametrize("kind", [NumbaVoxels, partial(TorchVoxels, torch.device("cpu"))])
def test_memory_does_not_change_the_result(tmp_path: Path, kind: Callable[[], Voxels]):
    """Blocks that went to disk and came back, in a grid that had erased others, are the same bits."""
    voxel = 0.02
    walk = [narrow_frame(i) for i in (*range(0, 60, 4), *range(60, 0, -4))]
    free = all_blocks(fused(tmp_path / "a.tsdf", walk, voxel, kind()))
    capacity = len(free) // 2
    store = BlockStore(tmp_path / "b.tsdf")
    volume = BlockVolume(voxel, 4 * voxel, store, capacity, kind())
    sizes = []
    for frame in walk:
        volume.integrate(frame)
        size, room = volume.room
        sizes.append(size)
        assert room == capacity  # never rehashed
    assert any(later < sooner for sooner, later in itertools.pairwise(sizes))  # evicted
    volume.flush()
    tight = all_blocks(store)
    for name in ("keys", "tsdf", "weight", "color"):
        assert np.array_equal(getattr(free, name), getattr(tight, name)), name


def test_voxels_too_small_for_the_memory_are_refused_with_ones_that_do(tmp_path: Path):
    volume = BlockVolume(VOXEL / 5, TRUNCATION / 5, BlockStore(tmp_path / "a.tsdf"), 600)
    with pytest.raises(ConfigError, match=r"voxels of 0.01 .* --voxel of about") as refusal:
        volume.integrate(room_frame(0))
    proposed = float(str(refusal.value).split()[-1])
    other = BlockVolume(proposed, 4 * proposed, BlockStore(tmp_path / "b.tsdf"), 600)
    other.integrate(room_frame(0))


def test_cosine_is_that_of_the_wall_and_flying_pixels_look_edge_on():
    pose = room_pose(0)
    frame = room_frame(0)
    cosine = surface_cosine(frame.depth, camera_array())
    rays = CAMERA.unproject_depth(np.ones((72, 96)))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    points = room_points(CAMERA, pose)
    back_wall = np.abs(points[..., 2] - 3.5) < 1e-6
    middle = back_wall & np.roll(back_wall, 2, 0) & np.roll(back_wall, 2, 1)
    middle[:3], middle[:, :3] = False, False
    assert np.allclose(cosine[middle], rays[..., 2][middle], atol=1e-3)
    depth = np.full((72, 96), 3.0, np.float32)
    depth[:, 40:] = 1.0
    depth[:, 39] = 2.0  # between the two surfaces
    cosine = surface_cosine(depth, camera_array())
    assert (cosine[:, 39] < np.cos(np.radians(80))).all()
    assert (cosine[:, [37, 38, 40, 41]] > 0.7).all()
