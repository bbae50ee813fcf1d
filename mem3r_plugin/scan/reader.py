"""Reading a scan, finished or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mem3r_plugin.errors import FrameSkipped, ScanError, SourceError
from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.scan.format import (
    CONFIDENCE,
    DEPTH,
    FRAMES,
    HEADER,
    MetricScale,
    ScanFrame,
    ScanGeometry,
    ScanHeader,
    decode_confidence,
    decode_depth,
    frame_file,
)
from mem3r_plugin.scan.structure import Structure
from mem3r_plugin.stream.images import is_stored_upright, read_image
from mem3r_plugin.stream.shared_camera import CameraMode
from mem3r_plugin.stream.video import VideoReader


class Scan:
    """A scan on disk, as far as it had come when it was opened.

    Opening reads the poses of all frames; pictures, depth and confidence are read when asked for.
    """

    def __init__(
        self, path: Path, header: ScanHeader, geometry: ScanGeometry, frames: tuple[ScanFrame, ...]
    ) -> None:
        self.path = path
        self.header = header
        self.frames = frames
        self._geometry = geometry
        self._video: VideoReader | None = None

    @classmethod
    def open(cls, path: str | Path) -> Scan:
        """Open the scan in folder `path`; of an interrupted one, all whole frames.

        Raises:
            ScanError: there is no scan, it has no frame yet, or it is damaged before its end.
        """
        path = Path(path).resolve()
        header = read_header(path)
        frames = _read_frames(path)
        if header.geometry is None or not frames:
            raise ScanError(f"{path} holds no frame yet; run or resume `mem3r run` first")
        return cls(path, header, header.geometry, frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        return f"Scan({str(self.path)!r}, {len(self)} frames, {state})"

    @property
    def complete(self) -> bool:
        """Whether the source was read to its end."""
        return self.header.complete

    @property
    def camera_mode(self) -> CameraMode:
        """Whether all frames share `camera`, or each has its own `frame_camera`."""
        return self.header.camera_mode

    @property
    def scale(self) -> MetricScale | None:
        """The length of the scan's unit; None: unknown."""
        return self.header.scale

    @property
    def camera(self) -> Intrinsics:
        """The shared camera in original pixels; the first frame's where each frame has its own."""
        return self._geometry.camera

    @property
    def network_camera(self) -> Intrinsics:
        """`camera` at network size."""
        return self.transform.intrinsics(self.camera)

    def frame_camera(self, index: int) -> Intrinsics:
        """The camera of frame `index` in original pixels, shared or its own as `camera_mode` says."""
        if self.camera_mode == "shared":
            return self.camera
        width, height = self.transform.target_size
        own = Intrinsics.centred(self.frames[index].focal, width, height)
        focal = self.transform.inverse.intrinsics(own).fx
        return replace(self.camera, fx=focal, fy=focal)

    def frame_network_camera(self, index: int) -> Intrinsics:
        """`frame_camera` at network size: the camera of the frame's depth map."""
        return self.transform.intrinsics(self.frame_camera(index))

    @property
    def depth_unit(self) -> float:
        """The step in which depth is stored: `depth` is exact to half of it."""
        return self._geometry.depth_unit

    @property
    def transform(self) -> ImageTransform:
        """From original pixels to network pixels."""
        return self._geometry.transform

    def depth(self, index: int) -> NDArray[np.float32]:
        """z-depth of a frame, shape (h, w) at network size; 0 = none."""
        code = self._read_code(DEPTH, index, np.uint16)
        return decode_depth(code, self._geometry.depth_unit)

    def confidence(self, index: int) -> NDArray[np.float32]:
        """Confidence of the depth, at least 1, shape (h, w) at network size; 1 where depth is 0."""
        return decode_confidence(self._read_code(CONFIDENCE, index, np.uint8))

    def feature(self, index: int) -> NDArray[np.float32] | None:
        """What a frame looks like to the network, of unit length, shape (C,); None where it is not kept."""
        feature = self.frames[index].feature
        return None if feature is None else feature.astype(np.float32)

    def original_depth(self, index: int) -> NDArray[np.float32]:
        """z-depth on the original pixel grid, shape (H, W), nearest neighbour; 0 = none."""
        return self.transform.inverse.sample(self.depth(index))

    def structure(self) -> Structure | None:
        """The points that `mem3r refine` triangulated, with their sightings; None in other scans.

        Raises:
            ScanError: the file is damaged.
        """
        return Structure.load(self.path)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The upright original picture of a frame, RGB, shape (H, W, 3).

        A video's pictures come fastest in rising order: going back decodes it from its start.

        Raises:
            ScanError: the source is gone or has changed since the scan was made.
        """
        frame = self.frames[index]
        try:
            picture = self._read_picture(frame)
        except (FrameSkipped, SourceError) as error:
            where = frame.image or self.header.source.get("path")
            raise ScanError(
                f"the picture of frame {frame.name} of {self.path}, {where}: {error}"
            ) from error
        width, height = self.transform.source_size
        if picture.shape != (height, width, 3):
            raise ScanError(
                f"the picture of frame {frame.name} of {self.path} is now "
                f"{picture.shape[1]}x{picture.shape[0]}, the scan was made from {width}x{height}"
            )
        return picture

    def image_file(self, index: int) -> Path | None:
        """A file that holds exactly the pixels of `image(index)`, or None where there is none.

        There is none for a video's frames, and for stored pictures that become upright 8-bit RGB
        only by their EXIF rotation or by a conversion.
        """
        reference = self.frames[index].image
        if reference is None:
            return None
        file = self.path / reference
        try:
            with Image.open(file) as stored:
                plain = stored.mode in ("RGB", "L")
            return file if plain and is_stored_upright(file) else None
        except OSError as error:
            raise ScanError(f"{file}, a picture of {self.path}, cannot be read: {error}") from error

    def _read_picture(self, frame: ScanFrame) -> NDArray[np.uint8]:
        if frame.image is not None:
            return read_image(self.path / frame.image)
        if self._video is None:
            self._video = VideoReader(Path(self.header.source["path"]))
        return self._video.read(frame.position)

    def _read_code(self, kind: str, index: int, dtype: type[np.generic]) -> NDArray[Any]:
        path = frame_file(self.path, kind, self.frames[index].index)
        code = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        width, height = self.transform.target_size
        if code is None or code.dtype != dtype or code.shape != (height, width):
            raise ScanError(
                f"{path} is missing or damaged: expected a grey PNG of type {np.dtype(dtype)} and "
                f"{width}x{height} pixels; run again with --resume or --overwrite"
            )
        return code


def read_header(path: Path) -> ScanHeader:
    """The header of the scan in folder `path`.

    Raises:
        ScanError: there is none, or it cannot be read.
    """
    file = path / HEADER
    try:
        return ScanHeader.from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScanError(f"{path} is not a scan: it has no {HEADER}") from None
    except OSError as error:
        raise ScanError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ScanError(f"{file} is damaged or of another format: {error!r}") from error


def _read_frames(path: Path) -> tuple[ScanFrame, ...]:
    """All whole lines of `frames.jsonl`; a torn last line is a frame that was never finished."""
    file = path / FRAMES
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return ()
    lines = content.split(b"\n")[:-1]
    frames = []
    for number, line in enumerate(lines, start=1):
        try:
            frame = ScanFrame.from_line(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ScanError(f"{file}, line {number} is damaged: {error!r}") from error
        if frame.index != number - 1:
            raise ScanError(
                f"{file}, line {number} is damaged: it holds frame {frame.index}, not {number - 1}"
            )
        frames.append(frame)
    for kind in (DEPTH, CONFIDENCE):
        present = {entry.name for entry in (path / kind).glob("*.png")}
        for frame in frames:
            picture = frame_file(path, kind, frame.index)
            if picture.name not in present:
                raise ScanError(
                    f"{picture} is missing although {file}, line {frame.index + 1} names it"
                )
    return tuple(frames)
