"""What the files of a scan mean: names, JSON records and pixel codes.

    SCAN/
      scan.json               `ScanHeader`; always replaced as a whole
      frames.jsonl            one `ScanFrame` a line, append-only; a whole line is a frame
      depth/000000.png        16-bit, network size, value * unit = z-depth, 0 = none
      confidence/000000.png   8-bit, round(255 * (1 - 1 / confidence)), 0 = none
      images/000000.png       original pixels, only where the source cannot be read again
      state/                  resume checkpoint; gone when the scan is complete
      structure.npz           `Structure`: points and sightings, only in a refined scan
      .lock                   locked by the process that writes; gone when the scan is complete

Nothing here depends on the clock, so two runs with the same settings on one machine write the same
bytes.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.stream.shared_camera import CameraMode

FORMAT = "mem3r-scan"
VERSION = 1

HEADER = "scan.json"
FRAMES = "frames.jsonl"
DEPTH = "depth"
CONFIDENCE = "confidence"
IMAGES = "images"
STATE = "state"
LOCK = ".lock"
STRUCTURE = "structure.npz"
ENTRIES = (HEADER, FRAMES, DEPTH, CONFIDENCE, IMAGES, STATE, STRUCTURE)
"""Everything a scan keeps directly in its folder."""

RGBD = "rgbd"
"""The kind of source that has measured depth."""

DEPTH_HEADROOM = 16
"""How many times farther than the far end of the first frame a depth may be and still fit."""

_DEPTH_MAX = 65535
_CONFIDENCE_MAX = 255
_HIGHEST_CONFIDENCE = 510.0  # the lower edge of the values that code 255 stands for


def frame_file(scan: Path, kind: str, index: int) -> Path:
    """The PNG of `kind` (`DEPTH`, `CONFIDENCE` or `IMAGES`) that belongs to frame `index`."""
    return scan / kind / f"{index:06d}.png"


@dataclass(frozen=True)
class ScanGeometry:
    """What is known of a scan from its first frame on."""

    depth_unit: float
    """Depth of one step of the 16-bit code, in the network's unit of length."""
    camera: Intrinsics
    """The shared camera, in original pixels, the best estimate so far while the scan grows; the first
    frame's where each frame has its own."""
    transform: ImageTransform
    """From original pixels to network pixels."""


@dataclass(frozen=True)
class MetricScale:
    """How long the scan's unit of length is, and how that is known."""

    metres_per_unit: float
    """Length of the unit."""
    relative_uncertainty: float
    """One standard deviation of it, as a share."""
    source: str
    """What it was measured by, in words."""


@dataclass(frozen=True)
class ScanHeader:
    """The content of `scan.json`."""

    model: dict[str, Any]
    """Name and weight hash of the network."""
    settings: dict[str, Any]
    """Every setting of the run that changes the result."""
    source: dict[str, Any]
    """What was read: `kind`, `path` and the like."""
    camera_origin: str
    """`estimated` by the network or `given` by the user."""
    camera_mode: CameraMode = "shared"
    """Whether all frames have `geometry.camera`, or each the focal length in its own record."""
    geometry: ScanGeometry | None = None
    """None until the first frame."""
    scale: MetricScale | None = None
    """The unit of length; None: unknown."""
    skipped: tuple[dict[str, Any], ...] = ()
    """`position`, `name` and `reason` of every frame that could not be used."""
    clipped_depths: int = 0
    """Number of pixels beyond the farthest depth the code can hold, stored as the farthest."""
    complete: bool = False
    """Whether the source was read to its end."""

    @property
    def depth_is_measured(self) -> bool:
        """Whether depth is as a sensor gave it, rather than a network's or found by refinement."""
        return self.source.get("kind") == RGBD and "refine" not in self.settings

    def to_json(self) -> str:
        """The text of `scan.json`."""
        record: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "complete": self.complete,
            "model": self.model,
            "settings": self.settings,
            "source": self.source,
            "depth": None,
            "camera": {"origin": self.camera_origin, "mode": self.camera_mode},
            "scale": None if self.scale is None else asdict(self.scale),
            "transform": None,
            "skipped": list(self.skipped),
        }
        if self.geometry is not None:
            record["depth"] = {"unit": self.geometry.depth_unit, "clipped": self.clipped_depths}
            record["camera"] = asdict(self.geometry.camera) | record["camera"]
            record["transform"] = self.geometry.transform.to_json()
        return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ScanHeader:
        """The inverse of `to_json`.

        Raises:
            ValueError: the text is not the header of a scan this version can read.
            KeyError, TypeError: a field is missing or of the wrong kind.
        """
        record = json.loads(text)
        if record["format"] != FORMAT or record["version"] != VERSION:
            raise ValueError(f"not a {FORMAT} of version {VERSION}")
        camera = dict(record["camera"])
        origin = camera.pop("origin")
        mode = camera.pop("mode", "shared")  # the first scans do not say
        if mode not in get_args(CameraMode):
            raise ValueError(f"unknown camera mode {mode!r}")
        geometry = None
        if record["transform"] is not None:
            geometry = ScanGeometry(
                depth_unit=float(record["depth"]["unit"]),
                camera=Intrinsics(**camera),
                transform=ImageTransform.from_json(record["transform"]),
            )
        return cls(
            model=record["model"],
            settings=record["settings"],
            source=record["source"],
            camera_origin=origin,
            camera_mode=mode,
            geometry=geometry,
            scale=MetricScale(**record["scale"]) if record.get("scale") else None,
            skipped=tuple(record["skipped"]),
            clipped_depths=record["depth"]["clipped"] if geometry else 0,
            complete=bool(record["complete"]),
        )


@dataclass(frozen=True, eq=False)
class ScanFrame:
    """One line of `frames.jsonl`."""

    index: int
    """Row of the scan, from 0 without gaps; names the frame's files."""
    name: str
    """The frame's unique name in the source."""
    timestamp: float
    """Seconds since the start of the source."""
    position: int
    """Frame number in the video, or rank in the folder."""
    image: str | None
    """The picture's file, absolute or relative to the scan; None: frame `position` of the video."""
    camera_to_world: NDArray[np.float64]
    """Pose, shape (4, 4), OpenCV axes; world is the first camera of the scan."""
    focal: float
    """The focal length in network pixels that the frame suggests by itself."""
    feature: NDArray[np.float16] | None = None
    """What the frame looks like to the network, of unit length, shape (C,); None in older scans."""

    def to_line(self) -> bytes:
        """The line, with its end; floats survive exactly."""
        record = {
            "index": self.index,
            "name": self.name,
            "timestamp": self.timestamp,
            "position": self.position,
            "image": self.image,
            "camera_to_world": self.camera_to_world.tolist(),
            "focal": self.focal,
        }
        if self.feature is not None:
            record["feature"] = b64encode(self.feature.astype("<f2").tobytes()).decode()
        return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_line(cls, line: bytes) -> ScanFrame:
        """The inverse of `to_line`.

        Raises:
            ValueError, KeyError, TypeError: the line is not a frame.
        """
        record = json.loads(line)
        pose = np.array(record["camera_to_world"], dtype=np.float64)
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise ValueError("camera_to_world is not a 4x4 matrix of finite numbers")
        feature = None
        if "feature" in record:
            feature = np.frombuffer(b64decode(record["feature"], validate=True), "<f2")
        return cls(
            index=int(record["index"]),
            name=str(record["name"]),
            timestamp=float(record["timestamp"]),
            position=int(record["position"]),
            image=record["image"],
            camera_to_world=pose,
            focal=float(record["focal"]),
            feature=feature,
        )


# -- pixel codes ---------------------------------------------------------------------------------


def choose_depth_unit(depth: NDArray[np.floating]) -> float:
    """The step of the 16-bit depth code for a scan whose first depth map is `depth` (h, w).

    The smallest power of ten that stores `DEPTH_HEADROOM` times the 99th percentile of the positive
    depths; 0.001 where there are none. Most of the first frame therefore lies between 400 and 4,096
    steps or nearer.
    """
    positive = depth[depth > 0]
    if positive.size == 0:
        return 0.001
    reach = DEPTH_HEADROOM * float(np.percentile(positive, 99))
    exponent = math.ceil(math.log10(reach / _DEPTH_MAX))
    return float(f"1e{exponent}")  # the same float that JSON reads back, unlike 10.0**exponent


def encode_depth(
    depth: NDArray[np.floating], unit: float
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """The 16-bit code of a depth map (h, w), and where a depth was too far for it, (h, w).

    Depths get the nearest code. Positive ones below half a step get the code 1, so that 0 stays
    "none" and nothing else; those beyond the last code get the last.
    """
    steps = np.rint(np.asarray(depth, dtype=np.float64) / unit)
    code = np.clip(steps, 1, _DEPTH_MAX).astype(np.uint16)
    code[~(depth > 0)] = 0
    return code, steps > _DEPTH_MAX


def decode_depth(code: NDArray[np.uint16], unit: float) -> NDArray[np.float32]:
    """The depth map, float32 (h, w), of a 16-bit code; 0 = none."""
    return (code.astype(np.float64) * unit).astype(np.float32)


def encode_confidence(confidence: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The 8-bit code of a confidence map (h, w) of values from 1 to infinity."""
    ratio = 1.0 - 1.0 / np.asarray(confidence, dtype=np.float64)
    return np.rint(_CONFIDENCE_MAX * ratio).astype(np.uint8)


def decode_confidence(code: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The confidence map, float32 (h, w), of an 8-bit code; 255 reads as 510."""
    shares = np.arange(_CONFIDENCE_MAX) / _CONFIDENCE_MAX
    table = np.append(1.0 / (1.0 - shares), _HIGHEST_CONFIDENCE).astype(np.float32)
    return table.take(code)
