"""The tensors that fuse on a GPU, here on torch's CPU device, against what numba compiles."""

from dataclasses import replace
from pathlib import Path

import cv2  # noqa: F401 - before Open3D
import numpy as np
import open3d as o3d
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.frames import DepthFrame
from mem3r_open3d.fuse import fuse, state_file
from mem3r_open3d.store import Blocks, BlockStore
from mem3r_open3d.torch_voxels import TorchVoxels
from mem3r_open3d.volume import BlockVolume
from mem3r_open3d.voxels import NumbaVoxels, Voxels
from mem3r_plugin.commands.main import main
from mem3r_plugin.errors import ConfigError, ScanError
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.scan import Scan
from tests.integrations.open3d.rooms import VOXEL, all_blocks, room_frame
from tests.room_scan import make_room_scan

TRUNCATION = 4 * VOXEL
CONFIG = FusionConfig(voxel=0.04, memory="400MB")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"), frames=6)


def on_torch() -> Voxels:
    return TorchVoxels(torch.device("cpu"))


def blocks_of(path: Path, voxels: Voxels, frames: list[tuple[DepthFrame, float]]) -> Blocks:
    """What is left of frames that were fused (1) or taken out (-1), one after the other."""
    with BlockStore(path) as store:
        volume = BlockVolume(VOXEL, TRUNCATION, store, 3_000, voxels)
        for frame, sign in frames:
            volume.integrate(frame, sign=sign)
        volume.flush()
        return all_blocks(store)


def require_agreement(ours: Blocks, theirs: Blocks) -> None:
    """The same to rounding, which may decide that a voxel on the edge of a pixel lies in the next one."""
    assert np.array_equal(ours.keys, theirs.keys)
    same = ours.weight == theirs.weight
    assert same.mean() > 0.999
    near = np.isclose(ours.tsdf, theirs.tsdf, atol=1e-5)
    near &= np.isclose(ours.color, theirs.color, atol=1e-3).all(axis=-1)
    assert near[same].mean() > 0.999


@settings(max_examples=10)
@given(
    indices=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    weight=st.integers(1, 256),
    picture=st.sampled_from([1, 2]),
)
def test_what_is_fused_agrees_with_numba(tmp_path_factory, indices, weight, picture):
    folder = tmp_path_factory.mktemp("fusion")
    frames = []
    for index in indices:
        frame = room_frame(index, weight=weight / 256)
        image = np.repeat(np.repeat(frame.image, picture, 0), picture, 1)
        frames.append((replace(frame, image=image, to_image=picture * np.eye(3)[:2]), 1.0))
    require_agreement(
        blocks_of(folder / "a.tsdf", on_torch(), frames),
        blocks_of(folder / "b.tsdf", NumbaVoxels(), frames),
    )


@settings(max_examples=30)
@given(
    index=st.integers(0, 40),
    offset=st.tuples(*[st.floats(-300, 300)] * 3),
    voxel=st.sampled_from([0.02, 0.05, 0.2]),
    truncation=st.sampled_from([1.5, 4, 30]),
    pixel_step=st.integers(1, 4),
    limit=st.sampled_from([50, 100_000]),
)
def test_the_blocks_it_touches_are_those_of_numba(
    index, offset, voxel, truncation, pixel_step, limit
):
    frame = room_frame(index)
    pose = frame.camera_to_world.copy()
    pose[:3, 3] += offset
    frame = replace(frame, camera_to_world=pose)
    frame.depth[::5, ::3] = 0
    options = frame, 8 * voxel, truncation * voxel, pixel_step, limit
    ours, theirs = on_torch().touched(*options), NumbaVoxels().touched(*options)
    assert len(ours) == len(theirs) == len(np.unique(ours))
    if len(theirs) <= limit:
        assert np.array_equal(np.sort(ours), np.sort(theirs))


def test_a_frame_without_depth_touches_nothing():
    frame = room_frame(0)
    frame.depth[:] = 0
    assert len(on_torch().touched(frame, 8 * VOXEL, TRUNCATION, 1, 100)) == 0


def test_taking_a_frame_out_gives_back_what_was(tmp_path: Path):
    stays, goes = [(room_frame(i), 1.0) for i in (0, 6)], room_frame(3, weight=0.5)
    before = blocks_of(tmp_path / "a.tsdf", on_torch(), stays)
    after = blocks_of(tmp_path / "b.tsdf", on_torch(), [*stays, (goes, 1.0), (goes, -1.0)])
    assert np.array_equal(before.keys, after.keys)
    assert np.array_equal(before.weight, after.weight)
    assert np.abs(before.tsdf - after.tsdf).max() < 1e-5
    assert np.abs(before.color - after.color).max() < 1e-2


def test_a_device_that_is_not_there_is_told_before_anything_is_replaced(room, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    output = tmp_path / "room.ply"
    fuse(room, output, CONFIG)
    kept = state_file(output).read_bytes()
    words = ["fuse", str(room.path), str(output), "--overwrite", "--device", "cuda"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "device 'cuda' cannot be used" in said
    assert state_file(output).read_bytes() == kept
    with pytest.raises(ConfigError, match="device 'gpu' cannot be used"):
        fuse(room, tmp_path / "other.ply", replace(CONFIG, device="gpu"))


def test_a_fusion_stays_on_the_device_where_it_began(room, tmp_path):
    fuse(room, tmp_path / "room.ply", CONFIG)
    with pytest.raises(ScanError, match="device was cpu and is now meta"):
        fuse(room, tmp_path / "room.ply", replace(CONFIG, device="meta"), resume=True)


@pytest.mark.gpu
def test_a_gpu_makes_the_mesh_that_a_cpu_makes(room, tmp_path):
    for device in ("cpu", "cuda"):
        fuse(room, tmp_path / f"{device}.ply", replace(CONFIG, device=device))
    clouds = [o3d.io.read_point_cloud(str(tmp_path / f"{d}.ply")) for d in ("cpu", "cuda")]
    for first, second in (clouds, clouds[::-1]):
        distance = np.asarray(first.compute_point_cloud_distance(second))
        assert np.quantile(distance, 0.999) < 1e-4


@pytest.mark.gpu
def test_a_gpu_takes_moved_frames_out_as_a_cpu_does(tmp_path):
    frames = [(room_frame(i), 1.0) for i in (0, 3, 6)]
    moved = room_frame(3, pose_matrix(np.eye(3), [0.1, 0.0, 0.0]))
    frames += [(frames[1][0], -1.0), (moved, 1.0)]
    require_agreement(
        blocks_of(tmp_path / "a.tsdf", TorchVoxels(torch.device("cuda")), frames),
        blocks_of(tmp_path / "b.tsdf", NumbaVoxels(), frames),
    )
