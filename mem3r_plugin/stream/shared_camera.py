"""The camera of a scan: one for all frames, estimated or given, or one for each frame."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.focal import BINS, focal_from_votes, focal_votes

CameraMode = Literal["shared", "per_frame"]
"""Whether all frames of a scan have the same camera, or each its own."""

_DEFAULT_FOCAL = 1.2
"""Focal length in long sides of the picture before any pixel votes; COLMAP's first guess too."""


class SharedCamera:
    """Gathers the focal length of a scan frame by frame, in constant memory.

    All frames' votes (see `focal_votes`) add up in one histogram, whose median is the focal length.
    fx and fy are equal in original pixels and the principal point is the middle of the original
    picture. At network size they follow through the `ImageTransform`, where rounding may make
    fx and fy differ a little.
    """

    origin = "estimated"
    """What `camera.origin` of a scan says."""
    mode: CameraMode = "shared"
    """What `camera.mode` of a scan says."""

    def __init__(self) -> None:
        self._votes = np.zeros(BINS)

    def observe(
        self,
        points: NDArray[np.floating],
        confidence: NDArray[np.floating],
        transform: ImageTransform,
    ) -> Intrinsics:
        """Take in one frame and return what it says by itself: its own camera, at network size.

        A frame without a usable point says what the frames before it said.

        Args:
            points: self-view points (h, w, 3), camera frame.
            confidence: their confidences (h, w); 0 where masked.
            transform: original to network pixels.
        """
        votes = focal_votes(points, confidence, transform)
        self._votes += votes
        focal = focal_from_votes(votes)
        if focal is None:
            return self.intrinsics(transform)
        return transform.intrinsics(_centred(focal, transform))

    def intrinsics(self, transform: ImageTransform) -> Intrinsics:
        """The camera shared by all frames so far, at network size."""
        return transform.intrinsics(self.original_intrinsics(transform))

    def original_intrinsics(self, transform: ImageTransform) -> Intrinsics:
        """The same camera in original pixels."""
        return _centred(focal_from_votes(self._votes) or _DEFAULT_FOCAL, transform)

    def to_tensors(self) -> dict[str, NDArray[np.float64]]:
        """All it remembers, to be saved exactly."""
        return {"votes": self._votes.copy()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, NDArray[np.float64]]) -> Self:
        """The inverse of `to_tensors`."""
        camera = cls()
        camera._votes = np.array(tensors["votes"], dtype=np.float64)
        return camera


class PerFrameCamera(SharedCamera):
    """Lets each frame keep the camera it suggests; one that suggests none gets the shared one."""

    mode = "per_frame"


class GivenCamera:
    """Intrinsics that the user knows; same interface as `SharedCamera`, nothing is estimated."""

    origin = "given"
    """What `camera.origin` of a scan says."""
    mode: CameraMode = "shared"
    """What `camera.mode` of a scan says."""

    def __init__(self, values: tuple[float, ...]) -> None:
        """Take `(f,)` or `(fx, fy, cx, cy)` in original pixels, pixel centres at half-integers.

        Raises:
            ConfigError: there are neither one nor four values, or a focal length is not above 0.
        """
        if len(values) not in (1, 4):
            raise ConfigError(f"intrinsics have {len(values)} values: give f, or fx,fy,cx,cy")
        if not np.isfinite(values).all() or min(values[:2]) <= 0:
            raise ConfigError(f"intrinsics {values}: focal lengths must be above 0")
        self._values = values

    @classmethod
    def parse(cls, text: str) -> GivenCamera:
        """The camera written as `f` or `fx,fy,cx,cy`.

        Raises:
            ConfigError: it is not written so.
        """
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            raise ConfigError(f"intrinsics {text!r}: give f, or fx,fy,cx,cy in pixels") from None
        return cls(values)

    def observe(
        self,
        points: NDArray[np.floating],
        confidence: NDArray[np.floating],
        transform: ImageTransform,
    ) -> Intrinsics:
        """The given camera at network size, whatever the frame says."""
        return self.intrinsics(transform)

    def intrinsics(self, transform: ImageTransform) -> Intrinsics:
        """The given camera at network size."""
        return transform.intrinsics(self.original_intrinsics(transform))

    def original_intrinsics(self, transform: ImageTransform) -> Intrinsics:
        """The given camera in original pixels.

        Raises:
            ConfigError: its principal point lies outside the picture.
        """
        width, height = transform.source_size
        if len(self._values) == 1:
            return Intrinsics.centred(self._values[0], width, height)
        fx, fy, cx, cy = self._values
        if not (0 < cx < width and 0 < cy < height):
            raise ConfigError(
                f"the principal point {cx:g},{cy:g} lies outside the {width}x{height} picture: "
                "intrinsics count original, upright pixels"
            )
        return Intrinsics(fx, fy, cx, cy, width, height)

    def to_tensors(self) -> dict[str, NDArray[np.float64]]:
        """Nothing changes from frame to frame, so there is nothing to save."""
        return {}


def choose_camera(
    mode: CameraMode, intrinsics: str | tuple[float, ...] | None
) -> SharedCamera | GivenCamera:
    """What estimates, or knows, the camera of a scan.

    Args:
        mode: One camera for the whole scan, or one for each frame.
        intrinsics: The camera if it is known, as text or numbers; see `GivenCamera`.

    Raises:
        ConfigError: the intrinsics make no sense, or are given although each frame has its own.
    """
    if intrinsics is None:
        return SharedCamera() if mode == "shared" else PerFrameCamera()
    if mode == "per_frame":
        raise ConfigError(
            f"intrinsics {intrinsics} fix one camera, per_frame estimates one for each frame: "
            "give one of them"
        )
    return GivenCamera.parse(intrinsics) if isinstance(intrinsics, str) else GivenCamera(intrinsics)


def _centred(focal: float, transform: ImageTransform) -> Intrinsics:
    """Original pixels' camera of a focal length in long sides of the picture."""
    width, height = transform.source_size
    return Intrinsics.centred(focal * max(width, height), width, height)
