"""The whole way from a source to a scan on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import tyro
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.errors import ConfigError, ScanError, SourceError
from mem3r_plugin.model import load_rule
from mem3r_plugin.model.precision import Precision
from mem3r_plugin.model.weights import load_network, network_config, weights_digest
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import HEADER, STATE, ScanHeader
from mem3r_plugin.scan.reader import read_header
from mem3r_plugin.stream.background import Background
from mem3r_plugin.stream.checkpoint import Checkpoint
from mem3r_plugin.stream.cuda_passage import passage_on_device
from mem3r_plugin.stream.estimate import FrameEstimate
from mem3r_plugin.stream.front_end import FrontEnd, chosen_interval, pick_device
from mem3r_plugin.stream.masks import MaskFolder
from mem3r_plugin.stream.passage import NetworkPassage, StreamPassage
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.progress import RunProgress
from mem3r_plugin.stream.shared_camera import CameraMode, choose_camera
from mem3r_plugin.stream.sink import Sink
from mem3r_plugin.stream.sinks import load_sink
from mem3r_plugin.stream.source import SkippedFrame, Source, open_source
from mem3r_plugin.stream.stages import NoClock, StageClock


@dataclass(frozen=True)
class RunConfig:
    """A run of the front end from a source to a scan."""

    source: tyro.conf.Positional[str]
    """Video file, image folder, glob such as 'walk/*.jpg', or camera index."""
    output: Path
    """Folder of the scan that is written."""
    model: str = "mem3r-tiny"
    """Name of a preset, or a YAML file."""
    weights: str | None = None
    """Bundled name, file or Hugging Face repository; by default those named like the model."""
    update: str = "ttt3r"
    """How the state is updated: plain, ttt3r, ttsa3r, memix, filt3r, or the name of a plug-in."""
    size: int | None = None
    """Long side of the network's pictures (of 4:3 ones, for models that keep the area, as mem3r-tiny); by
    default what the model was trained on."""
    stride: int = 1
    """Take every stride-th frame."""
    max_frames: int | None = None
    """Stop after this many usable frames."""
    start: float | None = None
    """First second of a video to use."""
    end: float | None = None
    """Second of a video to stop before."""
    fps: float | None = None
    """Thin a video to about this many frames a second, in place of a stride."""
    camera: CameraMode = "shared"
    """One camera for the whole scan, or one per frame, for a zoom that changes."""
    intrinsics: str | None = None
    """The camera if it is known: f, or fx,fy,cx,cy, in original pixels."""
    masks: Path | None = None
    """Folder of masks named like the frames; black is left out."""
    device: str | None = None
    """Where the network runs; by default a GPU if there is one."""
    precision: Precision = "auto"
    """Arithmetic of the network; auto is bfloat16 where the hardware is fast at it and the answers stay the
    same to a hundredth, else float32."""
    reset_interval: int | None = None
    """Start the state anew after this many frames, 0 for never; by default what the model's weights need."""
    checkpoint_every: int = 50
    """Save the state after this many frames, or a few more, for --resume."""
    sink: tuple[str, ...] = ()
    """Where frames go beside the scan as they come: tsdf fuses them into a mesh beside the scan (needs
    Open3D), or the names of plug-ins."""
    resume: bool = False
    """Continue the scan in the output folder where its last checkpoint left it."""
    overwrite: bool = False
    """Replace a scan that already lies in the output folder."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: a value makes no sense.
        """
        if self.checkpoint_every < 1:
            raise ConfigError(f"checkpoint_every is {self.checkpoint_every}, it must be at least 1")
        if self.resume and self.overwrite:
            raise ConfigError("resume continues a scan, overwrite replaces it: give one of them")
        choose_camera(self.camera, self.intrinsics)


def run(
    config: RunConfig,
    *,
    source: Source | Iterable[NDArray[Any]] | None = None,
    sinks: Sequence[Sink] = (),
    silent: bool = False,
    clock: StageClock | None = None,
    passage: StreamPassage | None = None,
) -> Scan:
    """Take a source through the front end and leave a scan.

    An interrupted run, even one that was killed, is continued with `resume`: the scan then gets the
    same bytes as if it had never stopped, on the same machine. A scan that is complete already is
    returned as it is.

    Args:
        config: What to do.
        source: An opened source, or an iterable of arrays, in place of `config.source`.
        sinks: Where estimates go beside the scan and `config.sink`; on resuming they get the frames
            from the last checkpoint on.
        silent: No progress bar and no notes on stderr.
        clock: Told how long the stages of the work take.
        passage: The network as `load_passage` loads it for `config`, where several runs share it.

    Raises:
        SourceError: the source cannot be read, or no frame of it can be used.
        ScanError: the scan to resume is damaged, or was made with other settings.
        OutputError: the scan cannot be written; the frames already in it stay valid.
        Mem3RError: anything else the user can mend; see `mem3r_plugin.errors`.
        KeyboardInterrupt: passed on once the sinks are closed.
    """
    opened = open_source(
        config.source if source is None else source,
        stride=config.stride,
        max_frames=config.max_frames,
        start=config.start,
        end=config.end,
        fps=config.fps,
    )
    header = _header(config, opened)
    checkpoint = None
    if config.resume and (config.output / HEADER).exists():
        recorded = read_header(config.output)
        _require_same(config.output, recorded, header)
        if recorded.complete:
            return _finished(config.output, silent)
        if not opened.restartable:
            raise SourceError(
                f"{config.output} cannot be resumed, its source cannot be read again; "
                "choose another --output"
            )
        checkpoint = Checkpoint.load(config.output)
        if checkpoint is not None:
            header = recorded
    scan = ScanSink(
        config.output,
        header,
        copy_images=opened.kind not in ("images", "video"),
        overwrite=config.overwrite or config.resume,
        resume_from=None if checkpoint is None else checkpoint.mark,
    )
    scan.check_folder()
    sinks = [*sinks, *(load_sink(name, config.output) for name in config.sink)]
    masks = None if config.masks is None else MaskFolder(config.masks)
    passage = passage or load_passage(config, clock)
    front_end = FrontEnd(
        passage,
        Preprocessor.of(passage.network.config, config.size),
        camera=choose_camera(config.camera, config.intrinsics),
        masks=masks,
        reset_interval=chosen_interval(config.reset_interval, passage.network.config),
        clock=clock,
    )
    _settle_precision(scan, front_end.precision, resumed=checkpoint is not None)
    if checkpoint is not None:
        front_end.load_state(checkpoint.tensors)
    done = scan.mark.frames
    with RunProgress(opened.expected_frames, done, silent) as progress:
        if checkpoint is not None:
            progress.note(f"resuming {config.output} after {done} frames")
        try:
            start_index = 0 if checkpoint is None else checkpoint.next_frame
            every, timed = config.checkpoint_every, clock or NoClock()
            _pump(front_end, opened, start_index, scan, sinks, every, progress, timed)
        except KeyboardInterrupt:
            advice = ", continue with --resume" if opened.restartable else ""
            progress.note(f"stopped; {config.output} holds {scan.mark.frames} frames{advice}")
            raise
    return Scan.open(config.output)


def load_passage(
    config: RunConfig, clock: StageClock | None = None, *, shared: bool = False
) -> NetworkPassage:
    """The network that a run wants, with its update rule, device and precision.

    Args:
        config: What the run wants.
        clock: Told how long the stages take.
        shared: Several runs take frames through it together.

    Raises:
        ConfigError: there is no such model, rule or device.
        WeightsError: the weights are missing or do not fit.
    """
    rule = load_rule(config.update)
    network = load_network(config.model, config.weights, device=pick_device(config.device))
    build = NetworkPassage if shared else passage_on_device
    return build(network, rule, config.precision, clock)


def _pump(
    front_end: FrontEnd,
    source: Source,
    start_index: int,
    scan: ScanSink,
    sinks: Sequence[Sink],
    checkpoint_every: int,
    progress: RunProgress,
    clock: StageClock,
) -> None:
    """Feed every estimate to every sink; whatever happens, all that were opened are closed.

    Sinks write in a thread of their own, a few frames behind the network.
    """
    write = Background()

    def skip(skipped: SkippedFrame) -> None:
        write(partial(scan.skip, skipped))
        progress.note(f"skipped {skipped.name}: it {skipped.reason}")

    def keep(estimate: FrameEstimate) -> None:
        with clock.stage("sinks"):
            for sink in (scan, *sinks):
                sink.write(estimate)
        progress.advance()

    def save(next_frame: int, state: dict[str, Tensor]) -> None:
        scan.sync()
        if source.restartable:
            Checkpoint(next_frame, scan.mark, state).save(scan.path)

    with ExitStack() as stack:
        estimates = stack.enter_context(
            closing(front_end.stream(source, start_index=start_index, on_skip=skip))
        )
        # An old scan is not touched before it is clear that there will be a new one.
        first = list(islice(estimates, 1))
        write.finish()
        if not first and scan.mark.frames == 0:
            culprit = scan.header.skipped[0]
            raise SourceError(f"no frame could be used: {culprit['name']} {culprit['reason']}")
        opened: list[Sink] = []
        stack.push(_closer(opened))
        for sink in (scan, *sinks):
            sink.open()
            opened.append(sink)
        stack.enter_context(write)
        unsaved = 0
        for estimate in chain(first, estimates):
            write(partial(keep, estimate))
            unsaved += 1
            if unsaved >= checkpoint_every and front_end.settled:
                write(partial(save, estimate.frame.index + 1, front_end.save_state()))
                unsaved = 0


def _closer(sinks: list[Sink]) -> Callable[..., None]:
    """An exit callback that closes sinks in order, as complete unless an exception is on its way."""

    def close(kind: type[BaseException] | None, *_: object) -> None:
        with ExitStack() as stack:  # the rest is closed even if one fails
            for sink in reversed(sinks):
                stack.callback(sink.close, complete=kind is None)

    return close


def _header(config: RunConfig, source: Source) -> ScanHeader:
    """The record of a run before its first frame: all that decides its result."""
    camera = choose_camera(config.camera, config.intrinsics)
    network = network_config(config.model, config.weights)
    weights = weights_digest(config.weights or network.name)
    return ScanHeader(
        model={"name": network.name, "weights_sha256": weights},
        settings={
            "update": config.update,
            "size": config.size or network.picture_size,
            **asdict(source.selection),
            "intrinsics": config.intrinsics,
            "masks": None if config.masks is None else str(config.masks.absolute()),
            "device": pick_device(config.device).type,
            "precision": config.precision,
            "reset_interval": chosen_interval(config.reset_interval, network),
        },
        source=source.describe(),
        camera_origin=camera.origin,
        camera_mode=camera.mode,
    )


def _settle_precision(scan: ScanSink, precision: Precision, resumed: bool) -> None:
    """Record which arithmetic `auto` came to.

    Raises:
        ScanError: the scan to continue was begun with another one.
    """
    settled = replace(scan.header, settings={**scan.header.settings, "precision": precision})
    if resumed:
        _require_same(scan.path, scan.header, settled)
    scan.header = settled


def _require_same(path: Path, recorded: ScanHeader, wanted: ScanHeader) -> None:
    """Refuse to continue a scan with other settings than it was begun with.

    Raises:
        ScanError: names what differs.
    """
    differences = [
        f"{name} was {old.get(name)!r} and is now {new.get(name)!r}"
        for old, new in (
            (recorded.model, wanted.model),
            (recorded.source, wanted.source),
            (recorded.settings, wanted.settings),
            ({"camera": recorded.camera_mode}, {"camera": wanted.camera_mode}),
        )
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and (name, new.get(name)) != ("precision", "auto")
    ]
    if differences:
        raise ScanError(
            f"{path} cannot be resumed, it was begun with other settings: {'; '.join(differences)}"
        )


def _finished(path: Path, silent: bool) -> Scan:
    """The scan that was complete already; a kill may have left its resume state behind."""
    shutil.rmtree(path / STATE, ignore_errors=True)
    scan = Scan.open(path)
    with RunProgress(None, silent=silent) as progress:
        progress.note(f"{path} is complete already, with {len(scan)} frames")
    return scan
