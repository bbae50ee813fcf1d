"""The front end: pictures in, poses and depth out, one frame at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.errors import ConfigError, FrameSkipped, Mem3RError
from mem3r_plugin.geometry.pose import ResetChain, invert_pose
from mem3r_plugin.model import NetworkConfig, RecurrentState, load_rule
from mem3r_plugin.model.precision import Precision
from mem3r_plugin.model.weights import load_network
from mem3r_plugin.stream.arrays import to_rgb8
from mem3r_plugin.stream.cuda_passage import passage_on_device
from mem3r_plugin.stream.estimate import Frame, FrameEstimate
from mem3r_plugin.stream.masks import MaskFolder
from mem3r_plugin.stream.passage import Answer, Flight, Passage, StreamPassage
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.shared_camera import (
    CameraMode,
    GivenCamera,
    SharedCamera,
    choose_camera,
)
from mem3r_plugin.stream.source import SkippedFrame, Source, open_source
from mem3r_plugin.stream.stages import NoClock, StageClock
from mem3r_plugin.stream.window import LARGEST_WINDOW, Readier, ReadyFrame, windows

MAX_REJECTED = 8
"""Frames in a row for which the network may give no finite answer before the stream stops."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Begun:
    """A window of frames that is on its way."""

    window: list[ReadyFrame]
    flight: Flight


class FrontEnd:
    """Turns a stream of pictures into poses and depth, in memory that does not grow.

    World is the first camera: predicted poses are taken relative to the one predicted for the first
    frame, whose own pose is therefore exactly the identity. Periodic resets keep it that way:
    after every `reset_interval` frames the state starts anew and the same frame is fed
    again, only to learn where the new state's world lies; its first prediction stands.

    Args:
        passage: The way through the network.
        preprocessor: From pictures to the network's size.
        camera: Gathers, or knows, the camera; by default one that all frames share is gathered.
        masks: What of each picture to leave out of depth and camera.
        reset_interval: Frames after which the state is reset; never by default.
        clock: Told how long the stages of a stream take, but for those of the passage.
    """

    def __init__(
        self,
        passage: StreamPassage,
        preprocessor: Preprocessor,
        *,
        camera: SharedCamera | GivenCamera | None = None,
        masks: MaskFolder | None = None,
        reset_interval: int | None = None,
        clock: StageClock | None = None,
    ) -> None:
        if reset_interval is not None and reset_interval < 1:
            raise ConfigError(f"reset_interval is {reset_interval}, it must be at least 1")
        self.precision = passage.precision
        """Arithmetic of the network, no longer `auto`."""
        self._clock = clock or NoClock()
        self._passage = passage
        self._ready = Readier(preprocessor, masks, self._clock)
        self._camera = camera or SharedCamera()
        self._reset_interval = reset_interval
        self._state = self._passage.initial_state()
        self._world_from_chunk = ResetChain()
        self._chunk_from_network: NDArray[np.float64] | None = None
        self._frames = 0
        self._since_reset = 0
        self._rejected = 0
        self._untold = 0
        """Frames begun ahead of those told, when the next window is gathered."""
        self.settled = True
        """Whether all frames that pass together with the last one have been told."""

    @classmethod
    def from_pretrained(
        cls,
        model: str = "mem3r-tiny",
        *,
        weights: str | None = None,
        update: str = "ttt3r",
        size: int | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        camera: CameraMode = "shared",
        intrinsics: str | tuple[float, ...] | None = None,
        masks: Path | None = None,
        reset_interval: int | None = None,
        clock: StageClock | None = None,
    ) -> FrontEnd:
        """A front end with trained weights.

        Args:
            model: Name of a preset, or a YAML file.
            weights: Bundled name, file or Hugging Face repository; by default those named like the model.
            update: Name of the update rule: `plain`, `ttt3r`, `ttsa3r`, `memix`, `filt3r` or a plug-in's.
            size: Long side of the network's pictures (of 4:3 ones, for models that keep the area, as
                mem3r-tiny); by default what the model was trained on.
            device: Where the network runs; by default a GPU if there is one.
            precision: Arithmetic of the network.
            camera: One camera for the whole scan, or `per_frame` for a focal length that changes.
            intrinsics: The camera if it is known: `f` or `fx,fy,cx,cy` in original pixels.
            masks: Folder of masks; black is left out.
            reset_interval: Frames after which the state is reset, 0 for never; by default what the model's
                weights need.
            clock: Told how long the stages of a stream take.

        Raises:
            ConfigError: a name or value makes no sense.
            WeightsError: the weights are missing or do not fit.
        """
        rule = load_rule(update)
        chosen_camera = choose_camera(camera, intrinsics)
        mask_folder = None if masks is None else MaskFolder(masks)
        network = load_network(model, weights, device=pick_device(device))
        return cls(
            passage_on_device(network, rule, precision, clock),
            Preprocessor.of(network.config, size),
            camera=chosen_camera,
            masks=mask_folder,
            reset_interval=chosen_interval(reset_interval, network.config),
            clock=clock,
        )

    @property
    def camera_origin(self) -> str:
        """`estimated` or `given`."""
        return self._camera.origin

    def stream(
        self,
        source: str | Path | int | Source | Iterable[NDArray[Any]],
        *,
        start_index: int = 0,
        on_skip: Callable[[SkippedFrame], None] | None = None,
    ) -> Generator[FrameEstimate, None, None]:
        """Estimates of all usable frames of a source, in order.

        Pictures are read ahead, and several pass through the network together, except those of a live
        camera; on a GPU they begin while those before them are told. `save_state` is right after every one of
        them; where `settled`, a stream that goes on from it even gives the same bytes as one that was never
        interrupted.

        Args:
            source: Whatever `open_source` takes.
            start_index: Number of the first frame to read, after `load_state`.
            on_skip: Told of every frame that cannot be used; by default it is logged.

        Raises:
            SourceError: the source cannot be read.
            Mem3RError: the network gives no finite answer any more.
        """
        tell = on_skip or _log_skip
        opened = open_source(source)
        live = opened.kind == "camera"
        self._untold = 0

        def room(wanted: int) -> int:
            if live:
                return 1
            room = wanted - (self._frames + self._untold) % wanted
            if self._reset_interval is not None:
                room = min(room, max(1, self._reset_interval - self._since_reset - self._untold))
            return room

        frames = opened.frames(start_index)
        ahead = 1 if live else LARGEST_WINDOW
        with closing(windows(frames, self._ready, room, ahead=ahead)) as items:
            yield from self._estimates(items, tell, run_ahead=not live)

    def step(self, image: Frame | NDArray[Any]) -> FrameEstimate:
        """The estimate of the next frame.

        Args:
            image: A frame of a source, or an upright picture: RGB (height, width, 3) or grey
                (height, width), uint8 or floats in [0, 1].

        Raises:
            FrameSkipped: the network's answer was not finite; nothing was learnt from the frame.
            Mem3RError: that happened `MAX_REJECTED` times in a row.
        """
        frame = image if isinstance(image, Frame) else self._next_frame(image)
        return self._alone(self._ready(frame))

    # -- saving ----------------------------------------------------------------------------

    def save_state(self) -> dict[str, Tensor]:
        """Everything remembered from the frames so far, as CPU tensors fit for safetensors."""
        anchor = self._chunk_from_network
        counters = [self._frames, self._since_reset, self._rejected, int(anchor is not None)]
        tensors = {
            "counters": torch.tensor(counters),
            "chain.base": torch.tensor(self._world_from_chunk.base),
            "chain.anchor": torch.tensor(np.eye(4) if anchor is None else anchor),
        }
        for name, array in self._camera.to_tensors().items():
            tensors[f"camera.{name}"] = torch.tensor(array)
        for name, tensor in self._state.to_tensors().items():
            tensors[f"recurrent.{name}"] = tensor.detach().cpu().contiguous().clone()
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `save_state` of a front end with the same settings gave, exactly."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self._state = RecurrentState.from_tensors(part("recurrent.")).to(self._passage.device)
        if isinstance(self._camera, SharedCamera):
            arrays = {name: tensor.numpy() for name, tensor in part("camera.").items()}
            self._camera = self._camera.from_tensors(arrays)
        self._frames, self._since_reset, self._rejected, anchored = tensors["counters"].tolist()
        self._world_from_chunk = ResetChain(tensors["chain.base"].numpy().copy())
        anchor = tensors["chain.anchor"].numpy().copy()
        self._chunk_from_network = anchor if anchored else None

    # -- parts of a stream -----------------------------------------------------------------

    def _estimates(
        self,
        items: Iterator[list[ReadyFrame] | SkippedFrame],
        tell: Callable[[SkippedFrame], None],
        *,
        run_ahead: bool,
    ) -> Generator[FrameEstimate, None, None]:
        """Estimates of windows; where the device works by itself, the next begins before one is told."""
        begun: _Begun | None = None
        while True:
            self._untold = 0 if begun is None else len(begun.window)
            try:
                item = next(items, None)
            except Exception:
                if begun is not None:  # what came before the failure is not lost
                    yield from self._together(begun, tell)
                raise
            following = None
            if isinstance(item, list):
                following = self._begin(item, self._state if begun is None else begun.flight.after)
            if begun is not None:
                yield from self._together(begun, tell, following is not None)
            begun = None if following is None else self._from_here(following)
            if begun is not None and not (run_ahead and self._can_be_followed(begun)):
                yield from self._together(begun, tell)
                begun = None
            if isinstance(item, SkippedFrame):
                tell(item)
            elif item is None:
                return

    def _begin(self, window: list[ReadyFrame], state: RecurrentState | None) -> _Begun:
        assert state is not None, "only what can be followed is"
        return _Begun(window, self._passage.begin(state, [ready.picture for ready in window]))

    def _from_here(self, begun: _Begun) -> _Begun:
        """A window that comes next; begun again where it went on from a state that does not count."""
        if begun.flight.before is self._state:
            return begun
        return self._begin(begun.window, self._state)

    def _can_be_followed(self, begun: _Begun) -> bool:
        """Whether the state after a window can be told before it has landed."""
        if begun.flight.after is None:
            return False
        after = self._since_reset + len(begun.window)
        return self._reset_interval is None or after < self._reset_interval

    def _together(
        self, begun: _Begun, tell: Callable[[SkippedFrame], None], followed: bool = False
    ) -> Generator[FrameEstimate, None, None]:
        """Estimates of a window of frames; one by one where the network fails for one of them.

        If it does and another window has been gathered to follow, that is not the one which a resumed run
        would gather.
        """
        window, passages = begun.window, begun.flight.land()
        left = len(window)
        for ready, passage in zip(window, passages, strict=True):
            if passage.answer is None:
                break
            left -= 1
            self.settled = left == 0
            yield self._accept(ready, passage, passage.answer)
        for ready in window[len(window) - left :]:
            left -= 1
            self.settled = left == 0 and not followed
            try:
                estimate = self._alone(ready)
            except FrameSkipped as error:
                tell(SkippedFrame(ready.frame.position, ready.frame.name, str(error)))
            else:
                yield estimate

    def _alone(self, ready: ReadyFrame) -> FrameEstimate:
        (passage,) = self._passage.take(self._state, [ready.picture])
        if passage.answer is None:
            self._reject(ready.frame)
        return self._accept(ready, passage, passage.answer)

    def _accept(self, ready: ReadyFrame, passage: Passage, answer: Answer) -> FrameEstimate:
        """Go on from a frame's passage; its estimate."""
        self._rejected = 0
        self._frames += 1
        self._state = passage.state
        camera_to_world = self._place(answer, passage)
        with self._clock.stage("camera"):
            usable = answer.usable if ready.keep is None else answer.usable & ready.keep
            own_camera = self._camera.observe(
                answer.points, np.where(usable, answer.confidence, 0), ready.transform
            )
            shared_camera = self._camera.intrinsics(ready.transform)
            return FrameEstimate(
                frame=ready.frame,
                camera_to_world=camera_to_world,
                depth=np.where(usable, answer.points[..., 2], np.float32(0)),
                confidence=np.where(usable, answer.confidence, np.float32(1)),
                intrinsics=own_camera if self._camera.mode == "per_frame" else shared_camera,
                transform=ready.transform,
                focal=own_camera.fx,
                feature=passage.feature,
            )

    def _place(self, answer: Answer, passage: Passage) -> NDArray[np.float64]:
        """The frame's pose in the scan's world; resets the state when that is due."""
        if self._chunk_from_network is None:
            self._chunk_from_network = invert_pose(answer.pose)
            local = np.eye(4)
        else:
            local = self._chunk_from_network @ answer.pose
        self._since_reset += 1
        if self._reset_interval is None or self._since_reset < self._reset_interval:
            return self._world_from_chunk.place(local)
        height, width = answer.confidence.shape
        again = self._passage.again(passage.tokens, (height, width))
        if again.answer is None:  # the old state still works: try again with the next frame
            return self._world_from_chunk.place(local)
        self._state, self._since_reset = again.state, 0
        self._chunk_from_network = invert_pose(again.answer.pose)
        return self._world_from_chunk.place(local, reset_after=True)

    def _reject(self, frame: Frame) -> NoReturn:
        self._rejected += 1
        if self._rejected < MAX_REJECTED:
            raise FrameSkipped("makes the network's answer infinite or NaN")
        raise Mem3RError(
            f"the network gave no finite answer for {MAX_REJECTED} frames in a row, up to {frame.name}: "
            "check the weights, or run with float32 precision or a reset interval"
        )

    def _next_frame(self, image: NDArray[Any]) -> Frame:
        name = f"frame_{self._frames:06d}.png"
        rgb = to_rgb8(image, name)
        return Frame(self._frames, name, float(self._frames), rgb, position=self._frames)


def chosen_interval(wanted: int | None, network: NetworkConfig) -> int | None:
    """Frames from reset to reset: what is wanted, by default what the model asks for; 0 is never."""
    return (network.reset_interval if wanted is None else wanted) or None


def pick_device(name: str | None) -> torch.device:
    """The device called `name`; by default a GPU if there is one.

    Raises:
        ConfigError: torch does not know it, or cannot use it here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device '{name}' cannot be used: {reason}") from error
    return device


def _log_skip(skipped: SkippedFrame) -> None:
    _log.warning("skipped %s: it %s", skipped.name, skipped.reason)
