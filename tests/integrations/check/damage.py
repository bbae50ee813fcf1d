"""Ways to spoil an exported project, each the trace of a mistake that programs really make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from PIL import Image

from mem3r_nerfstudio.axes import OPENCV_FROM_OPENGL
from mem3r_plugin.geometry.pose import invert_pose

Record = dict[str, Any]


def pictures(project: Path) -> list[Path]:
    return sorted((project / "images").iterdir())


def lose_a_picture(project: Path) -> None:
    pictures(project)[3].unlink()


def shrink_pictures(project: Path) -> None:
    for file in pictures(project):
        picture = np.asarray(cv2.imread(str(file)))
        cv2.imwrite(str(file), cv2.resize(picture, None, fx=0.5, fy=0.5))


def exchange_picture_files(project: Path) -> None:
    files = pictures(project)
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)


def tear_a_picture(project: Path) -> None:
    pictures(project)[2].write_bytes(b"not a picture")


# -- COLMAP --------------------------------------------------------------------------------------


def edit_model(project: Path, edit: Callable[[pycolmap.Reconstruction], None]) -> None:
    folder = project / "sparse/0"
    model = pycolmap.Reconstruction(str(folder))
    edit(model)
    for file in folder.iterdir():
        file.unlink()
    model.write_binary(str(folder))


def edit_poses(project: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change world-to-camera matrices (4, 4)."""

    def change(model: pycolmap.Reconstruction) -> None:
        for image in model.images.values():
            pose = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
            image.frame.rig_from_world = pycolmap.Rigid3d(edit(pose)[:3])

    edit_model(project, change)


def edit_cameras(project: Path, edit: Callable[[pycolmap.Camera], None]) -> None:
    def change(model: pycolmap.Reconstruction) -> None:
        for camera in model.cameras.values():
            edit(camera)

    edit_model(project, change)


def flip_axes(project: Path) -> None:
    edit_poses(project, lambda pose: OPENCV_FROM_OPENGL @ pose)


def invert_poses(project: Path) -> None:
    edit_poses(project, invert_pose)


def lose_half_a_pixel(project: Path) -> None:
    def change(camera: pycolmap.Camera) -> None:
        camera.params = np.array(camera.params) - [0, 0, 0.5, 0.5]

    edit_cameras(project, change)


def focal_of_network_size(project: Path) -> None:
    def change(camera: pycolmap.Camera) -> None:
        camera.params = np.array(camera.params) * [0.48, 0.48, 1, 1]

    edit_cameras(project, change)


def bend_the_camera(project: Path) -> None:
    def change(camera: pycolmap.Camera) -> None:
        camera.model, camera.params = "OPENCV", [*camera.params, 0.1, 0, 0, 0]

    edit_cameras(project, change)


def shuffle_names(project: Path) -> None:
    def change(model: pycolmap.Reconstruction) -> None:
        images = sorted(model.images.values(), key=lambda image: image.name)
        names = [image.name for image in images]
        for image, name in zip(images, reversed(names), strict=True):
            image.name = name

    edit_model(project, change)


def move_points(project: Path) -> None:
    def change(model: pycolmap.Reconstruction) -> None:
        for point in model.points3D.values():
            point.xyz = 2 * point.xyz[[0, 2, 1]] * [1, 1, -1]

    edit_model(project, change)


def lose_a_number(project: Path) -> None:
    def change(model: pycolmap.Reconstruction) -> None:
        next(iter(model.points3D.values())).xyz = np.array([0, np.nan, 1])

    edit_model(project, change)


def displace_one_camera(project: Path) -> None:
    def change(model: pycolmap.Reconstruction) -> None:
        image = model.images[4]
        pose = image.cam_from_world()
        image.frame.rig_from_world = pycolmap.Rigid3d(pose.rotation, pose.translation + 0.3)

    edit_model(project, change)


def truncate(name: str) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        file = project / "sparse/0" / name
        file.write_bytes(file.read_bytes()[:-7])

    return change


# -- transforms.json -----------------------------------------------------------------------------


def edit_transforms(project: Path, edit: Callable[[Record], None]) -> None:
    file = project / "transforms.json"
    record = json.loads(file.read_text())
    edit(record)
    file.write_text(json.dumps(record))


def edit_frames(project: Path, edit: Callable[[Record], None]) -> None:
    def change(record: Record) -> None:
        for frame in record["frames"]:
            edit(frame)

    edit_transforms(project, change)


def edit_matrices(project: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    def change(frame: Record) -> None:
        frame["transform_matrix"] = edit(np.array(frame["transform_matrix"])).tolist()

    edit_frames(project, change)


def ns_flip_axes(project: Path) -> None:
    edit_matrices(project, lambda pose: pose @ OPENCV_FROM_OPENGL)


def ns_invert_poses(project: Path) -> None:
    # In the scan's world: a program that inverts poses does so before it changes axes.
    def invert(record: Record) -> None:
        applied = np.vstack([record["applied_transform"], [0, 0, 0, 1]])
        for frame in record["frames"]:
            pose = invert_pose(applied) @ np.array(frame["transform_matrix"]) @ OPENCV_FROM_OPENGL
            frame["transform_matrix"] = (applied @ invert_pose(pose) @ OPENCV_FROM_OPENGL).tolist()

    edit_transforms(project, invert)


def ns_scale_poses(project: Path) -> None:
    edit_matrices(
        project, lambda pose: pose * np.array([1, 1, 1, 3])[None] * [[1], [1], [1], [1 / 3]]
    )


def ns_forget_the_world(project: Path) -> None:
    edit_transforms(project, lambda record: record.pop("applied_transform"))


def ns_lose_half_a_pixel(project: Path) -> None:
    edit_transforms(project, lambda r: r.update(cx=r["cx"] - 0.5, cy=r["cy"] - 0.5))


def ns_focal_of_network_size(project: Path) -> None:
    edit_transforms(project, lambda r: r.update(fl_x=0.48 * r["fl_x"], fl_y=0.48 * r["fl_y"]))


def ns_camera_of_network_size(project: Path) -> None:
    def change(record: Record) -> None:
        for key in ("fl_x", "fl_y", "cx", "cy"):
            record[key] *= 0.48
        record["w"], record["h"] = 96, 72

    edit_transforms(project, change)


def ns_shuffle_names(project: Path) -> None:
    def change(record: Record) -> None:
        names = [frame["file_path"] for frame in record["frames"]]
        for frame, name in zip(record["frames"], reversed(names), strict=True):
            frame["file_path"] = name

    edit_transforms(project, change)


def ns_truncate(project: Path) -> None:
    file = project / "transforms.json"
    file.write_text(file.read_text()[:-40])


def ns_truncate_seeds(project: Path) -> None:
    file = project / "sparse_pc.ply"
    file.write_bytes(file.read_bytes()[:-100])


def ns_seeds_in_the_world_of_the_scan(project: Path) -> None:
    file = project / "sparse_pc.ply"
    header, end, body = file.read_bytes().partition(b"end_header\n")
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)]).copy()
    vertices["xyz"] = vertices["xyz"][:, [0, 2, 1]] * [1, -1, 1]
    file.write_bytes(header + end + vertices.tobytes())


def ns_depth_in_another_unit(project: Path) -> None:
    for file in (project / "depths").iterdir():
        depth = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        cv2.imwrite(str(file), (depth * 5).astype(np.uint16))


def ns_shuffle_depth(project: Path) -> None:
    def change(record: Record) -> None:
        names = [frame["depth_file_path"] for frame in record["frames"]]
        for frame, name in zip(record["frames"], reversed(names), strict=True):
            frame["depth_file_path"] = name

    edit_transforms(project, change)


def ns_lose_a_depth_map(project: Path) -> None:
    next((project / "depths").iterdir()).unlink()


def ns_lose_a_number(project: Path) -> None:
    def change(record: Record) -> None:
        record["frames"][2]["transform_matrix"][0][3] = float("nan")

    edit_transforms(project, change)


def ns_lose_all_frames(project: Path) -> None:
    edit_transforms(project, lambda record: record["frames"].clear())


def ns_mask_some(project: Path) -> None:
    Image.new("L", (10, 10)).save(project / "mask.png")
    edit_transforms(project, lambda record: record["frames"][0].update(mask_path="mask.png"))
