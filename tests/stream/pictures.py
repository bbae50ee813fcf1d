"""Small real files to read: pictures that can be told apart."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(width: int = 32, height: int = 24, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth colourful picture that survives lossy coding."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 255, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def write_pictures(folder: Path, names: list[str], width: int = 32, height: int = 24) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        Image.fromarray(picture(width, height, seed)).save(folder / name)
    return folder


def video_frame(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A video's frame with its number in eight dark or bright bars; see `frame_number`."""
    frame = np.full((height, width, 3), 50, dtype=np.uint8)
    frame[: height // 2, : width // 2, 0] = 250  # red top left: tells rotations and RGB from BGR
    for bar in range(8):
        if number >> bar & 1:
            frame[height // 2 :, bar * width // 8 : (bar + 1) * width // 8] = 200
    return frame


def frame_number(image: NDArray[np.uint8]) -> int:
    """Which `video_frame` it is."""
    bars = np.array_split(image[image.shape[0] * 5 // 8 :], 8, axis=1)
    return sum(1 << bar for bar, pixels in enumerate(bars) if pixels.mean() > 125)


def write_video(path: Path, frames: int = 30, fps: float = 10.0, codec: str = "mp4v") -> Path:
    height, width = video_frame(0).shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(video_frame(number)[..., ::-1])
    writer.release()
    return path
