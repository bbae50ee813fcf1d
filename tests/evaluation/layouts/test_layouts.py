"""The room written in every layout is read back as the same truth."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mem3r_plugin.errors import SourceError
from mem3r_plugin.evaluation import PosedSequence, load_sequence
from mem3r_plugin.evaluation.layouts import bonn
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.pose import invert_pose, quaternion_from_rotation, relative_pose
from tests.room_scan import room_depth, room_pose, store_picture

FRAMES = 4
SIZE = (64, 48)
CAMERA = Intrinsics(52.0, 50.0, 33.0, 23.5, *SIZE)
POSES = [room_pose(index) for index in range(FRAMES)]
DEPTHS = [room_depth(CAMERA, pose) for pose in POSES]


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    store_picture(file, np.full((SIZE[1], SIZE[0], 3), 99, np.uint8))
    return file


def text(file: Path, content: str | np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        file.write_text(content)
    else:
        np.savetxt(file, content)


def depth_png(file: Path, index: int, per_unit: float, unknown: int = 0) -> None:
    """One depth map; its first pixel is unknown."""
    file.parent.mkdir(parents=True, exist_ok=True)
    stored = np.rint(DEPTHS[index] * per_unit).astype(np.uint16)
    stored[0, 0] = unknown
    cv2.imwrite(str(file), stored)


def tum_line(time: float, pose: np.ndarray) -> str:
    w, x, y, z = quaternion_from_rotation(pose[:3, :3])
    return " ".join(f"{value:.12g}" for value in (time, *pose[:3, 3], x, y, z, w))


def write_tum(folder: Path, poses: list[np.ndarray]) -> Path:
    """Clocks differ by a few milliseconds; the last picture has neither pose nor depth."""
    rgb, depth, truth = ["# rgb"], ["# depth"], ["# truth"]
    for index, pose in enumerate([*poses, None]):
        picture(folder / f"rgb/{index / 10:.6f}.png")
        rgb.append(f"{index / 10:.6f} rgb/{index / 10:.6f}.png")
        if pose is not None:
            depth_png(folder / f"depth/{index}.png", index, 5000)
            depth.append(f"{index / 10 + 0.008:.6f} depth/{index}.png")
            truth += [tum_line(index / 10 + 0.003, pose), tum_line(index / 10 + 0.05, POSES[0])]
    text(folder / "rgb.txt", "\n".join(rgb))
    text(folder / "depth.txt", "\n".join(depth))
    text(folder / "groundtruth.txt", "\n".join(truth[:-1]))
    return folder


def tum_of_camera_1(folder: Path) -> Path:
    return write_tum(folder / "rgbd_dataset_freiburg1_room", POSES)


def bonn_markers(folder: Path) -> Path:
    """The inverse of what ReFusion's evaluation does to the marker's poses."""
    axes, camera = bonn._AXES, bonn._MARKER_FROM_CAMERA
    marker = [axes.T @ pose @ np.linalg.inv(axes @ camera) for pose in POSES]
    return write_tum(folder / "rgbd_bonn_room", marker)


def seven_scenes(folder: Path) -> Path:
    for index, pose in enumerate(POSES):
        stem = folder / f"frame-{index:06d}"
        picture(stem.with_suffix(".color.png"))
        depth_png(stem.with_suffix(".depth.png"), index, 1000, unknown=65535)
        text(stem.with_suffix(".pose.txt"), pose)
    return folder


def scannet(folder: Path) -> Path:
    """Names are not padded, depth is stored at half size, the last pose is lost."""
    for index in (*range(FRAMES), 10):
        picture(folder / f"color/{index}.jpg")
        lost = np.full((4, 4), -np.inf)
        text(folder / f"pose/{index}.txt", POSES[index] if index < FRAMES else lost)
        depth_png(folder / f"depth/{index}.png", min(index, FRAMES - 1), 1000)
    matrix = np.eye(4)
    matrix[:3, :3] = CAMERA.matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    text(folder / "intrinsic/intrinsic_color.txt", matrix)
    return folder


def sintel(folder: Path) -> Path:
    tag = struct.pack("<f", 202021.25)
    for index, pose in enumerate(POSES):
        name = f"alley_1/frame_{index + 1:04d}"
        picture(folder / f"final/{name}.png")
        numbers = np.concatenate([CAMERA.matrix.ravel(), invert_pose(pose)[:3].ravel()])
        (folder / "camdata_left/alley_1").mkdir(parents=True, exist_ok=True)
        (folder / f"camdata_left/{name}.cam").write_bytes(tag + numbers.astype("<f8").tobytes())
        depth = DEPTHS[index].astype("<f4")
        depth[0, 0] = 0
        (folder / "depth/alley_1").mkdir(parents=True, exist_ok=True)
        header = tag + struct.pack("<ii", *SIZE)
        (folder / f"depth/{name}.dpt").write_bytes(header + depth.tobytes())
    return folder / "final/alley_1"


def replica(folder: Path) -> Path:
    for index in range(FRAMES):
        picture(folder / f"office0/results/frame{index:06d}.jpg")
        depth_png(folder / f"office0/results/depth{index:06d}.png", index, 6553.5)
    text(folder / "office0/traj.txt", np.stack(POSES).reshape(-1, 16))
    camera = {"w": 64, "h": 48, "fx": 52.0, "fy": 50.0, "cx": 32.5, "cy": 23.0, "scale": 6553.5}
    text(folder / "cam_params.json", json.dumps({"camera": camera}))
    return folder / "office0"


def kitti(folder: Path) -> Path:
    """The colour camera stands 6 cm left of the camera whose poses are given."""
    matrix = CAMERA.matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    shift = np.array([0.06, 0.0, 0.002])
    projection = np.column_stack([matrix, matrix @ shift])
    row = " ".join(f"{value:.12e}" for value in projection.ravel())
    sequence = folder / "sequences/00"
    text(sequence / "calib.txt", f"P0: {row}\nP2: {row}\n")
    to_first = np.eye(4)
    to_first[:3, 3] = shift
    first = np.stack([pose @ to_first for pose in POSES])
    text(folder / "poses/00.txt", first[:, :3].reshape(-1, 12))
    text(sequence / "times.txt", np.arange(FRAMES) / 10)
    for index in range(FRAMES):
        picture(sequence / f"image_2/{index:06d}.png")
    return sequence


def nerfstudio(folder: Path) -> Path:
    frames = []
    for index in reversed(range(FRAMES)):
        picture(folder / f"images/{index}.png")
        depth_png(folder / f"depth/{index}.png", index, 1000)
        opengl = POSES[index] @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append(
            {
                "file_path": f"images/{index}.png",
                "depth_file_path": f"depth/{index}.png",
                "transform_matrix": opengl.tolist(),
            }
        )
    camera = {"fl_x": 52.0, "fl_y": 50.0, "cx": 33.0, "cy": 23.5, "w": 64, "h": 48}
    text(folder / "transforms.json", json.dumps(camera | {"frames": frames}))
    return folder


def colmap(folder: Path) -> Path:
    lines = []
    for index, pose in enumerate(POSES):
        picture(folder / f"images/{index}.png")
        camera_from_world = invert_pose(pose)
        values = [*quaternion_from_rotation(camera_from_world[:3, :3]), *camera_from_world[:3, 3]]
        row = " ".join(f"{value:.15g}" for value in values)
        lines.append(f"{FRAMES - index} {row} 1 {index}.png\n\n")
    text(folder / "sparse/0/cameras.txt", "1 PINHOLE 64 48 52 50 33 23.5\n")
    text(folder / "sparse/0/images.txt", "".join(lines))
    text(folder / "sparse/0/points3D.txt", "")
    return folder


Writer = Callable[[Path], Path]
WITH_DEPTH: list[Writer] = [
    tum_of_camera_1,
    bonn_markers,
    seven_scenes,
    scannet,
    sintel,
    replica,
    nerfstudio,
]
CALIBRATED: list[Writer] = [scannet, sintel, replica, kitti, nerfstudio, colmap]
ALL: list[Writer] = [*WITH_DEPTH, kitti, colmap]


def load(write: Writer, folder: Path) -> PosedSequence:
    return load_sequence(write(folder / "data"))


@pytest.mark.parametrize("write", ALL)
def test_poses(write: Writer, tmp_path: Path) -> None:
    sequence = load(write, tmp_path)
    poses = sequence.camera_to_world
    assert sequence.posed[:FRAMES].all() and not sequence.posed[FRAMES:].any()
    # Layouts are free to choose the world.
    np.testing.assert_allclose(
        relative_pose(poses[0], poses[:FRAMES]), relative_pose(POSES[0], np.stack(POSES)), atol=1e-6
    )
    assert all(image.is_file() for image in sequence.images)
    assert (np.diff(sequence.timestamps) > 0).all()


@pytest.mark.parametrize("write", WITH_DEPTH)
def test_depth(write: Writer, tmp_path: Path) -> None:
    sequence = load(write, tmp_path)
    assert sequence.has_depth
    for index in range(FRAMES):
        depth = sequence.depth(index)
        assert depth[0, 0] == 0
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth.ravel()[1:], DEPTHS[index].ravel()[1:], atol=6e-4)


@pytest.mark.parametrize("write", CALIBRATED)
def test_cameras(write: Writer, tmp_path: Path) -> None:
    assert load(write, tmp_path).intrinsics == CAMERA


def test_cameras_known_by_the_name_of_the_data_set(tmp_path: Path) -> None:
    assert load(tum_of_camera_1, tmp_path / "tum").intrinsics.fx == 517.3
    assert load(bonn_markers, tmp_path / "bonn").intrinsics.cy == 238.256098
    assert load(seven_scenes, tmp_path / "7").intrinsics.fx == 585.0
    other = write_tum(tmp_path / "mine", POSES)
    assert load_sequence(other, "tum").intrinsics.cx == 320.0


def test_depth_of_another_size_comes_to_the_pictures_grid(tmp_path: Path) -> None:
    folder = scannet(tmp_path)
    half = np.full((SIZE[1] // 2, SIZE[0] // 2), 2000, np.uint16)
    half[:, 0] = 1000
    cv2.imwrite(str(folder / "depth/1.png"), half)
    depth = load_sequence(folder).depth(1)
    assert depth.shape == (SIZE[1], SIZE[0])
    assert (depth[:, :2] == 1).all() and (depth[:, 2:] == 2).all()


def test_a_picture_without_depth_has_unknown_depth(tmp_path: Path) -> None:
    folder = seven_scenes(tmp_path)
    (folder / "frame-000001.depth.png").unlink()
    assert (load_sequence(folder).depth(1) == 0).all()


@pytest.mark.parametrize(
    ("write", "file", "message"),
    [
        (tum_of_camera_1, "rgb.txt", "timestamp name"),
        (seven_scenes, "frame-000002.pose.txt", "frame-000002"),
        (scannet, "intrinsic/intrinsic_color.txt", "intrinsic_color"),
        (sintel, "../../camdata_left/alley_1/frame_0002.cam", "does not start as Sintel"),
        (replica, "traj.txt", "traj.txt"),
        (kitti, "calib.txt", "no usable line P2"),
        (nerfstudio, "transforms.json", "not valid JSON"),
        (colmap, "sparse/0/images.txt", "COLMAP model"),
    ],
)
def test_damaged_files_are_named(write: Writer, file: str, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    (folder / file).write_text("nonsense")
    with pytest.raises(SourceError, match=message):
        load_sequence(folder)


def test_a_folder_of_no_known_layout(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="none of the layouts"):
        load_sequence(tmp_path)
    with pytest.raises(SourceError, match="not a folder"):
        load_sequence(tmp_path / "missing")
