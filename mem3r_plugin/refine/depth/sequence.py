"""Consistent depth for every frame of a posed sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.refine.depth.alignment import DepthCorrection, align_depth
from mem3r_plugin.refine.depth.believed import believed_depth
from mem3r_plugin.refine.depth.consistency import cross_check, project_depth
from mem3r_plugin.refine.depth.keyframe_maps import KeyframeMaps
from mem3r_plugin.refine.depth.merge import merge_depth
from mem3r_plugin.refine.depth.neighbours import choose_neighbours
from mem3r_plugin.refine.depth.stereo import PriorDepth, StereoConfig, plane_sweep
from mem3r_plugin.refine.depth.views import View

CONFIDENT = 3.0
"""Pixels of at least this confidence are confirmed by two other views."""

_LEAST_POINTS = 10
"""Structure points that a keyframe needs to be matched."""

_BEYOND = 1.25
"""How far beyond the structure, as a factor of depth, surfaces are looked for."""

_DOUBT = 1e-4
"""Weight of a depth that nothing confirms, where confirmed ones have 1."""


_KEPT = 24
"""Pictures and checked maps kept in memory."""


@dataclass(frozen=True)
class DepthConfig:
    """Settings of depth refinement."""

    pixels: int = 50_000
    """About how many pixels a depth map of the refined scan has; never more than the picture."""
    stereo: StereoConfig = field(default_factory=StereoConfig)
    """How keyframes are matched."""
    tolerance: float = 0.05
    """Largest relative difference of two depths that confirm each other."""
    sources: int = 2
    """Keyframes whose depth is carried to a frame between them."""
    device: str = "cpu"
    """Where to compute."""


@dataclass(frozen=True, eq=False)
class RefinedDepth:
    """The refined depth of a frame."""

    index: int
    """Which frame."""
    depth: NDArray[np.float32]
    """z-depth (H, W); 0 only where a frame has neither structure nor a prior."""
    confidence: NDArray[np.float32]
    """One plus the number of other views that confirm the depth, (H, W)."""
    correction: DepthCorrection | None
    """How the prior was brought to the structure; None where that was not possible."""


def refine_depth(
    camera_to_world: FloatArray,
    camera: Intrinsics,
    picture: Callable[[int], NDArray[np.uint8]],
    points: Sequence[FloatArray],
    keyframes: Sequence[int],
    folder: Path,
    prior: Callable[[int], NDArray[np.float32]] | None = None,
    config: DepthConfig | None = None,
    progress: ProgressCallback = no_progress,
    start: int = 0,
) -> Iterator[RefinedDepth]:
    """Refine the depth of all frames: keyframes by stereo, the others from their keyframes.

    All maps have one size, that of `camera`; half the original resolution is a good choice on a CPU.
    Pictures must be free of lens distortion. Called again with the same arguments after an interruption,
    it goes on after the last keyframe that was matched, and comes to the same result.

    Args:
        camera_to_world: Refined poses (N, 4, 4).
        camera: The camera of pictures and depth maps.
        picture: RGB picture (H, W, 3) of a frame.
        points: World points (n, 3) seen in each frame, n may be 0.
        keyframes: Which frames are matched with each other, in rising order.
        folder: Keeps the depth found by matching.
        prior: The network's depth (H, W) of a frame, 0 = none; at any scale where the frame has points,
            taken as it is where it has none.
        config: Settings.
        progress: Is told how far it is.
        start: The first frame whose result is wanted.

    Yields:
        One result a frame from `start` on, in order.

    Raises:
        ScanError: a file in `folder` is damaged.
        OSError: `folder` cannot be written.
    """
    return _Refinement(
        camera_to_world, camera, picture, points, keyframes, folder, prior, config or DepthConfig()
    ).results(progress, start)


class _Refinement:
    """What `refine_depth` was given, and the stereo depth found so far.

    Pictures and maps are read when they are needed; only the last few are kept.
    """

    def __init__(
        self,
        camera_to_world: FloatArray,
        camera: Intrinsics,
        picture: Callable[[int], NDArray[np.uint8]],
        points: Sequence[FloatArray],
        keyframes: Sequence[int],
        folder: Path,
        prior: Callable[[int], NDArray[np.float32]] | None,
        config: DepthConfig,
    ) -> None:
        self.camera_to_world, self.camera, self.points = camera_to_world, camera, points
        self.picture, self.prior, self.config = picture, prior, config
        self.keyframes = list(keyframes)
        self.measured = KeyframeMaps(folder, config.device)
        self.view = lru_cache(_KEPT)(self.load_view)
        self.neighbours = lru_cache(None)(self.find_neighbours)
        self.checked = lru_cache(_KEPT)(self.check)

    def results(self, progress: ProgressCallback, start: int) -> Iterator[RefinedDepth]:
        for done, index in enumerate(self.keyframes):
            progress("matching keyframes", done, len(self.keyframes))
            if index not in self.measured:
                self.match(index)
        matched = [index for index in self.keyframes if index in self.measured]
        count = len(self.camera_to_world)
        for index in range(start, count):
            progress("refining depth", index, count)
            if index in self.measured:
                inverse_depth, agreeing = self.checked(index)
            else:
                inverse_depth, agreeing = self.carry(index, matched)
            yield self.merge(index, inverse_depth, agreeing)

    def load_view(self, index: int) -> View:
        """A frame as stereo sees it."""
        grey = cv2.cvtColor(self.picture(index), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        tensor = torch.from_numpy(grey).to(self.config.device)
        return View(tensor, self.camera, self.camera_to_world[index])

    def structure(self, index: int) -> tuple[FloatArray, FloatArray]:
        """Pixels (n, 2) and depths (n,) of the structure points inside a frame's picture."""
        seen = transform_points(invert_pose(self.camera_to_world[index]), self.points[index])
        seen = seen[seen[:, 2] > 0]
        pixels = self.camera.project(seen)
        visible = self.camera.contains(pixels)
        return pixels[visible], seen[visible, 2]

    def find_neighbours(self, index: int) -> list[int]:
        """The keyframes that a keyframe is matched with; none where too little is known."""
        config = self.config.stereo
        if len(self.structure(index)[1]) < _LEAST_POINTS:
            return []
        others = [other for other in self.keyframes if other != index]
        return choose_neighbours(
            self.points[index],
            self.camera,
            self.camera_to_world,
            index,
            others,
            config.neighbours,
            config.angle,
        )

    def match(self, index: int) -> None:
        """Find a keyframe's depth by stereo, unless nothing is known about where to look."""
        if not self.neighbours(index):
            return
        pixels, known = self.structure(index)
        near, far = np.quantile(known, [0.02, 0.98]).tolist()
        self.measured[index] = plane_sweep(
            self.view(index),
            [self.view(other) for other in self.neighbours(index)],
            (near / _BEYOND, far * _BEYOND),
            self.config.stereo,
            self.belief(index, pixels, known),
        )

    def belief(self, index: int, pixels: FloatArray, known: FloatArray) -> PriorDepth:
        """What is believed about a keyframe's depth before it is matched."""
        correction, prior = self.aligned_prior(index, pixels, known)
        network = None
        if prior is not None and correction is not None:
            inverse = torch.where(prior > 0, 1 / prior.clamp_min(1e-6), 0.0)
            network = PriorDepth(inverse, correction.residual)
        return believed_depth(pixels, known, self.view(index).grey, network)

    def check(self, index: int) -> tuple[Tensor, Tensor]:
        """A keyframe's depth averaged with that of its neighbours, and how many of them agree."""
        others = [other for other in self.neighbours(index) if other in self.measured]
        return cross_check(
            self.view(index),
            self.measured[index],
            [(self.view(other), self.measured[other]) for other in others],
            self.config.tolerance,
        )

    def carry(self, index: int, matched: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Depth of the nearest keyframes as a frame between them sees it; 0 where they do not."""
        view = self.view(index)
        inverse_depth, agreeing = torch.zeros_like(view.grey), torch.zeros_like(view.grey)
        nearest = sorted(matched, key=lambda key: abs(key - index))[: self.config.sources]
        for key in nearest:
            depth, confirmed = self.checked(key)
            sure = torch.where(confirmed + 1 >= CONFIDENT, depth, 0.0)
            seen = project_depth(self.view(key), sure, view)
            agreeing = torch.where(seen > inverse_depth, CONFIDENT - 1, agreeing)
            inverse_depth = torch.maximum(inverse_depth, seen)
        return inverse_depth, agreeing

    def merge(self, index: int, inverse_depth: Tensor, agreeing: Tensor) -> RefinedDepth:
        """The result of a frame: what is confirmed as it is, the rest filled in."""
        pixels, known = self.structure(index)
        measured = torch.where(inverse_depth > 0, 1 / inverse_depth.clamp_min(1e-9), 0.0)
        sure = (agreeing + 1 >= CONFIDENT) & (measured > 0)
        rows, columns = np.nonzero(sure.cpu().numpy())
        pixels = np.concatenate([pixels, np.stack([columns, rows], axis=-1)[::97] + 0.5])
        known = np.concatenate([known, measured[sure].cpu().numpy()[::97]])
        correction, prior = self.aligned_prior(index, pixels, known)
        weight = torch.where(sure, 1.0, _DOUBT) * (measured > 0)
        if bool((weight > 0).any()):
            filled = merge_depth(measured, weight, self.view(index).grey, prior)
            depth = torch.where(sure, measured, filled)
        else:
            depth = torch.zeros_like(measured) if prior is None else prior
        return RefinedDepth(
            index, depth.cpu().numpy(), (1 + agreeing * (measured > 0)).cpu().numpy(), correction
        )

    def aligned_prior(
        self, index: int, pixels: FloatArray, known: FloatArray
    ) -> tuple[DepthCorrection | None, Tensor | None]:
        """The network's depth brought to the known depths of a frame, unchanged where too few are."""
        if self.prior is None:
            return None, None
        depth = self.prior(index)
        correction = align_depth(depth, self.camera, pixels, known)
        aligned = depth if correction is None else correction.apply(depth, self.camera)
        return correction, torch.from_numpy(aligned).to(self.config.device)
