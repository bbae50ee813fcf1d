"""How people handle a camera: tremor, gait, stops and second looks.

Path frames are taken as a twentieth of a second. Sizes follow what is known of people: about two steps of
0.7 m a second, and hands whose tremor reaches to 10 Hz, its power falling with the square of the frequency.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.shares import check_share

Array = NDArray[np.float64]

_TREMOR_BAND = (0.015, 0.5)
"""Cycles a frame: 0.3 to 10 Hz."""
_TREMOR_WAVES = 32
_TREMOR_PLACE = 0.006
"""Root mean square, metres along each axis."""
_TREMOR_ANGLE = 0.008
"""Root mean square, radians about each axis."""
_STEP = 0.7
"""Metres from one footfall to the next."""
_BRISK = 0.05
"""Metres a frame at which the gait is felt in full."""
_GAIT = {"aside": 0.012, "yaw": 0.008, "pitch": 0.008, "roll": 0.01}
"""Amplitudes in metres and radians; from foot to foot, but the pitch, which nods at every step."""
_PAN_FADES = 0.99
"""How much of a look aside is left a frame later."""


@dataclass(frozen=True)
class Handling:
    """How like a person's the paths are; without it they are smooth and never stop."""

    shake: float = 0.0
    """Strength of tremor and gait; 1 is that of an untrained hand, 0 none."""
    hesitation: float = 0.0
    """Share of hand-held and walked paths with stops, pans on the spot and ways back, 0 to 1."""
    sideways: float = 0.0
    """Share of walks along corridors, streets and loops that look aside or back instead of ahead, 0 to 1."""
    tilted: float = 0.0
    """Share of paths whose camera is aimed higher or lower: held in rooms, it looks down at what stands
    there; elsewhere it is a few degrees off, 0 to 1."""
    closeups: float = 0.0
    """Share of paths in rooms that go around a thing at arm's length, 0 to 1."""
    photos: float = 0.0
    """Share of sequences, but loops, that are single photographs, one every path frame, with steps of
    decimetres and around ten degrees, 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is no share.

        Raises:
            ConfigError: a value is out of its range.
        """
        if self.shake < 0:
            raise ConfigError(f"shake = {self.shake}: must not be below 0")
        for field in fields(self):
            if field.name != "shake":
                check_share(field.name, getattr(self, field.name))
        if self.closeups + self.photos > 1:
            raise ConfigError("closeups and photos together must not be more than 1")


@dataclass(frozen=True)
class Track:
    """T places and directions of a camera."""

    position: Array
    """World position in metres, (T, 3)."""
    yaw: Array
    """About the vertical from +x, radians, unwrapped, (T)."""
    pitch: Array
    """Upwards, radians, (T)."""
    roll: Array
    """Clockwise, radians, (T)."""


def shaken(track: Track, rng: np.random.Generator, strength: float) -> Track:
    """A track with the tremor of hands and the gait of a walker, at `strength` times their usual size."""
    frames = len(track.yaw)
    tremor = strength * _tremor(rng, frames, 6)
    steps = np.linalg.norm(
        np.diff(track.position[:, :2], axis=0, prepend=track.position[:1, :2]), axis=1
    )
    felt = strength * np.convolve(np.minimum(steps / _BRISK, 1), np.ones(9) / 9, "same")[:frames]
    phase = np.pi * np.cumsum(steps) / _STEP + rng.uniform(0, 2 * np.pi)
    sway = felt * np.sin(phase)
    left = np.column_stack([-np.sin(track.yaw), np.cos(track.yaw), np.zeros(frames)])
    place = _TREMOR_PLACE * tremor[:, :3] + _GAIT["aside"] * sway[:, None] * left
    angles = _TREMOR_ANGLE * tremor[:, 3:]
    return Track(
        track.position + place,
        track.yaw + angles[:, 0] + _GAIT["yaw"] * sway,
        track.pitch + angles[:, 1] + _GAIT["pitch"] * felt * np.sin(2 * phase),
        track.roll + angles[:, 2] + _GAIT["roll"] * felt * np.cos(phase),
    )


def hesitant(track: Track, rng: np.random.Generator) -> Track:
    """A track with stops, pans on the spot and ways back; it gets less far in the same time."""
    frames = len(track.yaw)
    pace, turning = np.ones(frames), np.zeros(frames)
    start = int(rng.integers(60))
    while start < frames:
        end = start + int(rng.uniform(15, 90))
        what = rng.choice(["stop", "pan", "back"], p=[0.25, 0.5, 0.25])
        pace[start:end] = -rng.uniform(0.4, 1.0) if what == "back" else 0.0
        if what == "pan":
            turning[start:end] = rng.choice([-1, 1]) * rng.uniform(0.01, 0.05)
        start = end + int(rng.exponential(60))
    clock = np.abs(np.cumsum(_smooth(pace)) - pace[0]).clip(max=frames - 1)
    aside = np.zeros(frames)
    for frame, turn in enumerate(_smooth(turning)[1:], 1):
        aside[frame] = _PAN_FADES * aside[frame - 1] + turn
    time = np.arange(frames)
    values = np.column_stack([track.position, track.yaw, track.pitch, track.roll])
    x, y, z, yaw, pitch, roll = (np.interp(clock, time, column) for column in values.T)
    return Track(np.column_stack([x, y, z]), yaw + aside, pitch, roll)


def look_aside(rng: np.random.Generator) -> float:
    """An angle in radians from the direction of motion: to one side, sometimes back."""
    middle = np.pi if rng.random() < 0.25 else rng.choice([-1, 1]) * np.pi / 2
    return float(middle + rng.uniform(-0.6, 0.6))


def tilt(rng: np.random.Generator, downwards: bool) -> float:
    """An angle in radians to add to a path's pitch."""
    return float(rng.uniform(-0.5, -0.1) if downwards else rng.uniform(-0.1, 0.12))


def _tremor(rng: np.random.Generator, frames: int, axes: int) -> Array:
    """Independent noise (frames, axes) of unit mean square; it depends on time alone, not on `frames`."""
    low, high = np.log(_TREMOR_BAND)
    edges = np.linspace(low, high, _TREMOR_WAVES + 1)
    frequency = np.exp(rng.uniform(edges[:-1, None], edges[1:, None], (_TREMOR_WAVES, axes)))
    # Waves are evenly spread over octaves, so a power of 1/f for each makes a density of 1/f².
    amplitude = frequency**-0.5
    amplitude *= np.sqrt(2 / np.square(amplitude).sum(axis=0))
    phase = rng.uniform(0, 2 * np.pi, frequency.shape)
    time = np.arange(frames)[:, None, None]
    return (amplitude * np.sin(2 * np.pi * frequency * time + phase)).sum(axis=1)


def _smooth(values: Array) -> Array:
    """Values (T) averaged over half a second."""
    window = np.hanning(13)[1:-1]
    padded = np.pad(values, 5, mode="edge")
    return np.convolve(padded, window / window.sum(), "valid")
