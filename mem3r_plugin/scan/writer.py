"""The sink that leaves a scan on disk."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mem3r_plugin.errors import OutputError, ScanError
from mem3r_plugin.files import sync, write_atomically
from mem3r_plugin.scan.format import (
    CONFIDENCE,
    DEPTH,
    ENTRIES,
    FRAMES,
    HEADER,
    IMAGES,
    LOCK,
    STATE,
    ScanFrame,
    ScanGeometry,
    ScanHeader,
    choose_depth_unit,
    encode_confidence,
    encode_depth,
    frame_file,
)
from mem3r_plugin.scan.output_errors import output_errors
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.stream.source import SkippedFrame


@dataclass(frozen=True)
class ScanMark:
    """How far a scan had come: what `ScanSink` needs to go on from there."""

    frames: int
    """Number of whole frames."""
    skipped: tuple[dict[str, Any], ...]
    """Frames that could not be used until then."""
    clipped_depths: int
    """Pixels stored as the farthest depth until then."""


class ScanSink:
    """Writes a scan, frame by frame; killed at any moment it opens up to the last whole frame.

    The files of a frame are written before its line in `frames.jsonl`, each by a rename, and
    `scan.json` is only ever replaced as a whole. One sink at a time writes a scan.

    Args:
        path: The scan's folder.
        header: Model, settings, source and camera origin of the run.
        copy_images: Keep the original pictures in the scan, for sources that cannot be read again.
        overwrite: Remove a scan that already lies at `path`.
        resume_from: Go on with the scan at `path` from this mark; what it holds beyond is removed.
        depth_unit: The step of the depth code, where depth comes in steps already; by default a power of
            ten that suits the first frame.
    """

    def __init__(
        self,
        path: Path,
        header: ScanHeader,
        *,
        copy_images: bool = False,
        overwrite: bool = False,
        resume_from: ScanMark | None = None,
        depth_unit: float | None = None,
    ) -> None:
        self.path = path
        self.header = header
        self._copy_images = copy_images
        self._overwrite = overwrite
        self._resumes = resume_from is not None
        self._depth_unit = depth_unit
        self._frames = 0
        if resume_from is not None:
            self._frames = resume_from.frames
            self.header = replace(
                header,
                skipped=resume_from.skipped,
                clipped_depths=resume_from.clipped_depths,
                complete=False,
            )
        # Opened and closed by different threads.
        self._lock = FileLock(path / LOCK, timeout=0, thread_local=False)
        self._lines: FileIO | None = None
        self._unsynced: list[Path] = []

    # -- the sink interface ----------------------------------------------------------------

    def open(self) -> None:
        """Make the folder ready, or rewind the scan in it to the mark.

        Raises:
            OutputError: the folder cannot be written, holds something not to be replaced, or is being
                written by another process.
        """
        with output_errors(self.path):
            self.check_folder()
            self._take_lock()
            try:
                self._begin()
            except BaseException:
                self._lock.release()
                raise

    def write(self, estimate: FrameEstimate) -> None:
        """Add one frame.

        Raises:
            OutputError: it could not be written; the frames before it stay valid.
            ScanError: its picture differs in size from the frames before it.
        """
        if self._lines is None:
            raise ValueError("write to a ScanSink that is not open")
        index = self._frames
        geometry = self._geometry(estimate)
        depth, too_far = encode_depth(estimate.depth, geometry.depth_unit)
        confidence = encode_confidence(estimate.confidence)
        confidence[depth == 0] = 0
        feature = estimate.feature
        line = ScanFrame(
            index=index,
            name=estimate.frame.name,
            timestamp=estimate.frame.timestamp,
            position=estimate.frame.position,
            image=self._image_reference(estimate.frame, index),
            camera_to_world=estimate.camera_to_world,
            focal=estimate.focal,
            feature=None if feature is None else feature.astype(np.float16),
        ).to_line()
        with output_errors(self.path):
            self._write_png(DEPTH, index, depth)
            self._write_png(CONFIDENCE, index, confidence)
            if self._copies(estimate.frame):
                self._write_png(IMAGES, index, estimate.frame.image[..., ::-1])
            first = self.header.geometry is None
            clipped = self.header.clipped_depths + int(np.count_nonzero(too_far))
            self.header = replace(self.header, geometry=geometry, clipped_depths=clipped)
            if first:
                self._write_header()  # a scan with a frame must say how to read it
            self._append(self._lines, line)
        self._frames = index + 1

    def close(self, complete: bool) -> None:
        """Finish.

        A complete scan is made durable and loses its resume state. For an incomplete one the header
        is brought up to date if the disk allows; the one on disk is valid anyway.
        """
        if self._lines is None:
            return
        try:
            if complete:
                with output_errors(self.path):
                    self.sync()
                    self.header = replace(self.header, complete=True)
                    self._write_header(durable=True)
                    shutil.rmtree(self.path / STATE, ignore_errors=True)
            else:
                with suppress(OSError):
                    self._write_header()
        finally:
            self._lines.close()
            self._lines = None
            if complete:
                with suppress(OSError):
                    (self.path / LOCK).unlink()
            self._lock.release()

    # -- beyond the interface: what `run` needs for skipped frames and checkpoints ---------------

    def check_folder(self) -> None:
        """Refuse to begin a scan where something else lies; nothing is changed.

        Raises:
            OutputError: the folder holds a scan that is not to be replaced, or no scan at all.
        """
        if self._resumes or not self.path.is_dir():
            return
        names = {entry.name for entry in self.path.iterdir()}
        if HEADER in names and not self._overwrite:
            raise OutputError(
                f"{self.path} already holds a scan; continue it with --resume, replace it with "
                "--overwrite, or choose another --output"
            )
        foreign = names - set(ENTRIES) - {LOCK, f".{HEADER}.tmp"}
        if HEADER not in names and foreign:
            raise OutputError(
                f"{self.path} is not empty and not a scan (it holds {min(foreign)}); choose "
                "another --output"
            )

    def skip(self, skipped: SkippedFrame) -> None:
        """Note a frame that could not be used."""
        self.header = replace(self.header, skipped=(*self.header.skipped, asdict(skipped)))

    def sync(self) -> None:
        """Wait until everything written so far survives a power cut."""
        if self._lines is None:
            return
        with output_errors(self.path):
            for path in (*self._unsynced, self.path / FRAMES):
                sync(path)
            for folder in {path.parent for path in self._unsynced}:
                sync(folder)
            self._write_header(durable=True)
        self._unsynced.clear()

    @property
    def mark(self) -> ScanMark:
        """How far the scan has come."""
        return ScanMark(self._frames, self.header.skipped, self.header.clipped_depths)

    # -- parts -----------------------------------------------------------------------------

    def _take_lock(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"{self.path} is being written by another process: wait for it, or stop it and "
                "continue with --resume"
            ) from error

    def _begin(self) -> None:
        if self._resumes:
            self._rewind()
        else:
            self._make_room()
            self._write_header()
        for folder in (DEPTH, CONFIDENCE, *([IMAGES] if self._copy_images else [])):
            (self.path / folder).mkdir(exist_ok=True)
        self._lines = FileIO(self.path / FRAMES, "a")

    def _make_room(self) -> None:
        # The header goes last: what is half removed is still known as a scan.
        for name in sorted(ENTRIES, key=lambda name: name == HEADER):
            entry = self.path / name
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def _rewind(self) -> None:
        lines = self.path / FRAMES
        with lines.open("rb+") as file:
            for number in range(self._frames):
                if not file.readline().endswith(b"\n"):
                    raise ScanError(
                        f"{lines} has lost its line {number + 1}, which the checkpoint builds on; "
                        "start again with --overwrite"
                    )
            file.truncate(file.tell())
        for folder in (DEPTH, CONFIDENCE, IMAGES):
            for path in (self.path / folder).glob("*"):
                if not path.stem.isdigit() or int(path.stem) >= self._frames:
                    path.unlink()

    def _geometry(self, estimate: FrameEstimate) -> ScanGeometry:
        known = self.header.geometry
        if known is not None and known.transform != estimate.transform:
            raise ScanError(
                f"{estimate.frame.name} differs in size from the frames already in {self.path}: "
                "all pictures of a scan have one size"
            )
        if known is not None and self.header.camera_mode == "per_frame":
            return known
        unit = known.depth_unit if known else self._depth_unit
        return ScanGeometry(
            depth_unit=unit or choose_depth_unit(estimate.depth),
            camera=estimate.original_intrinsics,
            transform=estimate.transform,
        )

    def _copies(self, frame: Frame) -> bool:
        return self._copy_images and frame.path is None

    def _image_reference(self, frame: Frame, index: int) -> str | None:
        if self._copies(frame):
            return frame_file(self.path, IMAGES, index).relative_to(self.path).as_posix()
        return None if frame.path is None else str(frame.path.resolve())

    def _write_png(self, kind: str, index: int, pixels: NDArray[Any]) -> None:
        path = frame_file(self.path, kind, index)
        encoded = cv2.imencode(".png", np.ascontiguousarray(pixels))[1]
        write_atomically(path, encoded.tobytes())
        self._unsynced.append(path)

    def _append(self, lines: FileIO, line: bytes) -> None:
        length = lines.seek(0, 2)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[lines.write(rest) :]
        except OSError:
            lines.truncate(length)
            raise

    def _write_header(self, durable: bool = False) -> None:
        write_atomically(self.path / HEADER, self.header.to_json().encode(), durable)
