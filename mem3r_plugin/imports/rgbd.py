"""Posed RGB-D sequences as scans: fusion and every export then serve them as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError, FrameSkipped, ScanError, SourceError
from mem3r_plugin.evaluation.layouts import Layout, load_sequence
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.geometry.pose import (
    pose_matrix,
    quaternion_from_rotation,
    relative_pose,
    rotation_from_quaternion,
)
from mem3r_plugin.scan import Scan, ScanMark, ScanSink
from mem3r_plugin.scan.format import FRAMES, HEADER, RGBD, MetricScale, ScanHeader
from mem3r_plugin.scan.reader import read_header
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.stream.images import read_image
from mem3r_plugin.stream.prefetch import prefetch
from mem3r_plugin.stream.progress import RunProgress
from mem3r_plugin.stream.source import SkippedFrame

_SURE = 1000.0
"""Confidence of measured depth: more than the scan's code can tell apart from certainty."""


@dataclass(frozen=True)
class ImportRgbdConfig:
    """What to take from where."""

    directory: tyro.conf.Positional[Path]
    """Folder of one sequence: TUM RGB-D, Bonn, 7-Scenes, Replica, ScanNet, Sintel, nerfstudio with depth,
    or rgb/, depth/, poses.txt and meta.json."""
    output: tyro.conf.Positional[Path]
    """Folder of the scan that is written."""
    layout: Layout | Literal["auto"] = "auto"
    """How the folder is laid out; auto takes the first layout that fits."""
    stride: int = 1
    """Take every stride-th frame."""
    resume: bool = False
    """Continue a scan that an earlier import left unfinished."""
    overwrite: bool = False
    """Replace a scan that already lies in the output folder."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: a value makes no sense.
        """
        if self.stride < 1:
            raise ConfigError(f"stride is {self.stride}, it must be at least 1")
        if self.resume and self.overwrite:
            raise ConfigError("resume continues a scan, overwrite replaces it: give one of them")


def import_rgbd(config: ImportRgbdConfig, *, silent: bool = False) -> Scan:
    """Make a scan of a posed RGB-D sequence: given poses and camera, depth as it is stored.

    Depth keeps its own size and, where it is stored in 16-bit steps, its exact values. Pictures are
    referred to, not copied. An import that was stopped or killed continues with `resume` to the same
    bytes.

    Args:
        config: What to do.
        silent: No progress bar and no notes on stderr.

    Raises:
        SourceError: the folder fits no layout, has no depth or no poses, or a file is missing or damaged.
        ScanError: the scan to resume is damaged, or was made otherwise.
        OutputError: the scan cannot be written; the frames already in it stay valid.
    """
    sequence = load_sequence(config.directory, config.layout)
    chosen = _usable_frames(sequence, config.stride)
    header = _header(config, sequence)
    mark = None
    if config.resume and (config.output / HEADER).exists():
        recorded = _begun(config.output, header)
        if recorded.complete:
            return Scan.open(config.output)
        frames = _whole_frames(config.output)
        # Depth without steps may have been clipped, which only a whole import counts.
        if frames and sequence.depth_step is not None:
            mark = ScanMark(frames, header.skipped, 0)
            header = replace(header, geometry=recorded.geometry)
    sink = ScanSink(
        config.output,
        header,
        overwrite=config.overwrite or config.resume,
        resume_from=mark,
        depth_unit=sequence.depth_step,
    )
    sink.check_folder()
    done = sink.mark.frames
    with RunProgress(len(chosen), done, silent) as progress, ExitStack() as stack:
        for skipped in header.skipped:
            progress.note(f"skipped {skipped['name']}: it {skipped['reason']}")
        estimates = prefetch(posed_estimates(sequence, config.stride, done))
        stack.enter_context(closing(estimates))
        # An old scan is not touched before it is clear that there will be a new one.
        first = list(islice(estimates, 1))
        sink.open()
        stack.push(lambda kind, *_: sink.close(complete=kind is None))
        for estimate in chain(first, estimates):
            sink.write(estimate)
            progress.advance()
    return Scan.open(config.output)


def posed_estimates(
    sequence: PosedSequence, stride: int = 1, start: int = 0
) -> Iterator[FrameEstimate]:
    """A sequence's known cameras and depth, in the form in which the front end gives its own.

    The world is the first camera with a pose; frames without a pose are left out. Depth keeps the size
    in which it is stored, and the picture's grid is scaled to it.

    Args:
        sequence: The truth, with depth.
        stride: Take every stride-th frame.
        start: How many of the frames with a pose to leave out at the beginning.

    Raises:
        SourceError: there is no depth or no pose, or a file is missing or damaged.
    """
    chosen = _usable_frames(sequence, stride)
    poses = _rigid(sequence.camera_to_world[chosen])
    picture = ImageTransform.identity((sequence.intrinsics.width, sequence.intrinsics.height))
    for index in range(start, len(chosen)):
        position = int(chosen[index])
        depth = sequence.stored_depth(position)
        transform = picture.resized(depth.shape[1], depth.shape[0])
        intrinsics = transform.intrinsics(sequence.intrinsics)
        yield FrameEstimate(
            frame=_frame(sequence, index, position),
            camera_to_world=relative_pose(poses[0], poses[index]),
            depth=depth,
            confidence=np.where(depth > 0, np.float32(_SURE), np.float32(1)),
            intrinsics=intrinsics,
            transform=transform,
            focal=intrinsics.fx,
        )


def _begun(scan: Path, header: ScanHeader) -> ScanHeader:
    """The header of the scan to resume.

    Raises:
        ScanError: it was begun otherwise.
    """
    recorded = read_header(scan)
    if (recorded.source, recorded.settings) != (header.source, header.settings):
        raise ScanError(
            f"{scan} cannot be resumed, it was begun from {recorded.source.get('path')} with "
            f"{recorded.settings}: give the same, or --overwrite"
        )
    return recorded


def _whole_frames(scan: Path) -> int:
    """How many frames an unfinished scan has."""
    file = scan / FRAMES
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _usable_frames(sequence: PosedSequence, stride: int) -> NDArray[np.int64]:
    """Positions of the frames to take: every stride-th, if its pose is known."""
    if not sequence.has_depth:
        raise SourceError(f"{sequence.directory} has no depth: nothing to import")
    positions = np.arange(0, len(sequence), stride)
    usable = positions[sequence.posed[positions]]
    if not usable.size:
        raise SourceError(f"{sequence.directory} has no frame with a pose: nothing to import")
    return usable


def _header(config: ImportRgbdConfig, sequence: PosedSequence) -> ScanHeader:
    unposed = np.flatnonzero(~sequence.posed)
    return ScanHeader(
        model={"name": "import-rgbd"},
        settings={"layout": config.layout, "stride": config.stride},
        source={"kind": RGBD, "path": str(config.directory.absolute())},
        camera_origin="given",
        scale=MetricScale(1.0, 0.0, "the data set, which counts in metres"),
        skipped=tuple(
            asdict(SkippedFrame(position, sequence.images[position].name, "has no pose"))
            for position in unposed[unposed % config.stride == 0].tolist()
        ),
    )


def _frame(sequence: PosedSequence, index: int, position: int) -> Frame:
    file = sequence.images[position]
    size = (sequence.intrinsics.width, sequence.intrinsics.height)
    try:
        image = read_image(file)
    except FrameSkipped as error:
        raise SourceError(f"the picture {file} {error}") from error
    if image.shape[1::-1] != size:
        raise SourceError(
            f"the picture {file} is {image.shape[1]}x{image.shape[0]}, "
            f"the camera of {sequence.directory} {size[0]}x{size[1]}"
        )
    seconds = float(sequence.timestamps[position] - sequence.timestamps[0])
    return Frame(index, file.name, seconds, image, file, position)


def _rigid(camera_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses (N, 4, 4) with the nearest true rotations; files keep few digits."""
    quaternion = quaternion_from_rotation(camera_to_world[:, :3, :3])
    return pose_matrix(rotation_from_quaternion(quaternion), camera_to_world[:, :3, 3])
