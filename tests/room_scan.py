"""Scans of a box-shaped room whose depth, poses and colours are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.pose import pose_matrix
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import ScanHeader
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.stream.preprocess import Preprocessor

SourceKind = Literal["images", "video", "arrays"]

LOW, HIGH = np.array([-2.0, -1.4, -1.5]), np.array([2.0, 1.1, 3.5])
"""Corners of the room in world coordinates."""

STORED_AS = {  # what a camera that writes this EXIF orientation does to an upright picture
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_EXIF_ORIENTATION = 0x0112


def room_pose(index: int) -> NDArray[np.float64]:
    """The camera of a frame: a sidestep and a turn to the left; the first is the world."""
    yaw = -0.05 * index
    rotation = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    return pose_matrix(rotation, [0.08 * index, -0.02 * index, 0.05 * index])


def room_points(camera: Intrinsics, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """World coordinates (h, w, 3) of what every pixel of a camera sees."""
    return along_rays(camera.unproject_depth(np.ones((camera.height, camera.width))), pose)


def along_rays(rays: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """World coordinates (..., 3) of what lies along rays (..., 3) of a camera."""
    rays, origin = rays @ pose[:3, :3].T, pose[:3, 3]
    with np.errstate(divide="ignore"):
        distance = np.where(rays > 0, (HIGH - origin) / rays, (LOW - origin) / rays)
    distance[rays == 0] = np.inf
    return origin + rays * distance.min(axis=-1, keepdims=True)


def room_colours(points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The smooth paint of the room at world coordinates (..., 3)."""
    return np.rint(128 + 100 * np.sin(points * [1.3, 1.7, 1.1] + [0, 1, 2])).astype(np.uint8)


def room_depth(camera: Intrinsics, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact z-depth (h, w)."""
    points = room_points(camera, pose)
    return (points - pose[:3, 3]) @ pose[:3, 2]


def make_room_scan(
    directory: Path,
    *,
    frames: int = 6,
    size: tuple[int, int] = (200, 150),
    network_size: int = 96,
    orientation: int = 1,
    suffix: str = ".png",
    kind: SourceKind = "images",
    complete: bool = True,
    focal: float = 160.0,
    zoom: float = 1.0,
    name: str = "{:03d}",
    edit: Callable[[FrameEstimate], FrameEstimate] = lambda estimate: estimate,
) -> Scan:
    """Write pictures (or a video) to `directory/source` and their perfect scan to `directory/scan`.

    Args:
        directory: Where to write.
        frames: Number of frames.
        size: Width and height of the upright pictures.
        network_size: Long side of the depth maps.
        orientation: EXIF orientation of the stored pictures.
        suffix: Format of the stored pictures.
        kind: What the scan was made from.
        complete: Whether the scan is finished.
        focal: Focal length in original pixels.
        zoom: What multiplies it from frame to frame; unless 1, each frame has its own camera.
        name: Pattern of the pictures' names.
        edit: Spoils estimates before they are written.
    """
    transform = Preprocessor(network_size).transform(size)
    cameras = [Intrinsics.centred(focal * zoom**i, *size) for i in range(frames)]
    source = directory / "source"
    source.mkdir(parents=True)
    pictures = [room_colours(room_points(cameras[i], room_pose(i))) for i in range(frames)]
    paths: list[Path | None] = [None] * frames
    if kind == "images":
        paths = [source / f"{name.format(i)}{suffix}" for i in range(frames)]
        for path, picture in zip(paths, pictures, strict=True):
            assert path is not None
            store_picture(path, picture, orientation)
    elif kind == "video":
        store_video(source / "walk.mp4", pictures)
    header = ScanHeader(
        model={"name": "exact"},
        settings={},
        source={"kind": kind, "path": str(source / "walk.mp4" if kind == "video" else source)},
        camera_origin="estimated",
        camera_mode="shared" if zoom == 1 else "per_frame",
    )
    sink = ScanSink(directory / "scan", header, copy_images=kind == "arrays")
    sink.open()
    for i, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
        frame_name = path.name if path else f"{name.format(i)}{suffix}"
        frame = Frame(i, frame_name, i / 10, picture, path, i)
        sink.write(edit(room_estimate(frame, cameras[i], transform)))
    sink.close(complete)
    return Scan.open(directory / "scan")


def room_estimate(frame: Frame, camera: Intrinsics, transform: ImageTransform) -> FrameEstimate:
    """What a perfect network says about a frame; surer in the middle of the picture."""
    network_camera = transform.intrinsics(camera)
    pose = room_pose(frame.index)
    x, y = np.moveaxis(network_camera.pixel_centres(), -1, 0)
    off_centre = np.hypot(x - network_camera.cx, y - network_camera.cy) / network_camera.width
    return FrameEstimate(
        frame=frame,
        camera_to_world=pose,
        depth=room_depth(network_camera, pose).astype(np.float32),
        confidence=(1 + 9 / (1 + off_centre)).astype(np.float32),
        intrinsics=network_camera,
        transform=transform,
        focal=network_camera.fx,
    )


def store_picture(path: Path, upright: NDArray[np.uint8], orientation: int = 1) -> None:
    """Save a picture as a camera held that way would."""
    picture = Image.fromarray(upright)
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    if turn is not None:
        picture = picture.transpose(turn)
        exif[_EXIF_ORIENTATION] = orientation
    picture.save(path, exif=exif, quality=97)


def store_video(path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    """Save pictures as a video."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()


def distance_to_walls(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far points (N, 3) are from the nearest wall, shape (N,)."""
    return np.minimum(np.abs(points - LOW), np.abs(points - HIGH)).min(axis=1)
