"""Camera paths: smooth, clear of walls and things, at the speeds of people and cars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.training.worlds.builder import Array, turn
from mem3r_plugin.training.worlds.handling import (
    Handling,
    Track,
    hesitant,
    look_aside,
    shaken,
    tilt,
)
from mem3r_plugin.training.worlds.scenes import Kind, Route, World

Style = Literal["handheld", "walk", "orbit", "drive", "loop", "closeup", "photos"]
STYLES: tuple[Style, ...] = get_args(Style)
MARGIN = 0.3
"""Metres that cameras keep from obstacles and walls."""
_FASTEST_LOOP = 0.3
"""Metres a frame at which loops are hurried through to come round again."""
_LAPS = 1.15
"""Times around a loop, where the frames suffice for it."""
_STEP = 0.1
"""Metres between the points of a line to follow."""
_DETOURS = np.linspace(0, np.pi, 13)[:, None].repeat(2, 1).ravel()[1:] * np.resize([1.0, -1.0], 25)
"""Angles to try, in radians, where a place around a thing is not free: nearest first, to both sides."""
_STYLES_OF: dict[Kind, tuple[Style, ...]] = {
    "room": ("handheld", "handheld", "walk", "orbit"),
    "corridor": ("walk", "handheld"),
    "street": ("drive", "drive", "walk"),
    "loop": ("loop",),
}


@dataclass(frozen=True)
class _Motion:
    """How a carrier moves a camera, a frame at 15 to 30 Hz."""

    speed: tuple[float, float]
    """Metres a frame, least and greatest."""
    height: tuple[float, float]
    """Of the camera above the floor, metres."""
    bob: float
    """Amplitude of the steps, metres."""
    sway: float
    """Amplitude of the wandering of position across the direction of motion, metres."""
    scan: tuple[float, float]
    """Amplitude of looking around, left-right and up-down, radians."""
    roll: float
    """Amplitude of roll, radians."""
    turn: float = 0.07
    """Radians a frame at which corners are taken at most."""


_MOTIONS: dict[Style, _Motion] = {
    "handheld": _Motion((0.008, 0.06), (1.0, 1.75), 0.003, 0.15, (0.8, 0.2), 0.05),
    "walk": _Motion((0.03, 0.12), (1.4, 1.75), 0.02, 0.2, (0.45, 0.12), 0.03),
    "orbit": _Motion((0.02, 0.08), (0.9, 1.8), 0.004, 0.0, (0.06, 0.05), 0.03),
    "drive": _Motion((0.2, 0.9), (1.2, 1.9), 0.003, 0.25, (0.04, 0.01), 0.005),
    "loop": _Motion((0.05, 0.15), (1.3, 1.75), 0.015, 0.15, (0.3, 0.08), 0.02),
    "closeup": _Motion((0.008, 0.04), (0.6, 1.7), 0.003, 0.0, (0.05, 0.05), 0.05),
    "photos": _Motion((0.2, 0.6), (1.2, 1.75), 0.0, 0.3, (0.0, 0.0), 0.03, turn=0.5),
}


def typical_speed(style: Style) -> float:
    """Metres a frame that the style covers on average."""
    return float(np.mean(_MOTIONS[style].speed))


def choose_style(world_kind: Kind, seed: int, handling: Handling | None = None) -> Style:
    """A style that suits the kind of world."""
    if handling is not None and world_kind != "loop":
        chance = np.random.default_rng([seed, 6]).random()
        if chance < handling.photos:
            return "photos"
        if world_kind == "room" and chance < handling.photos + handling.closeups:
            return "closeup"
    styles = _STYLES_OF[world_kind]
    return styles[int(np.random.default_rng([seed, 2]).integers(len(styles)))]


def sample_path(
    world: World,
    frames: int,
    seed: int,
    style: Style | None = None,
    handling: Handling | None = None,
) -> Tensor:
    """Poses of a camera carried through a world.

    Args:
        world: where.
        frames: how many poses.
        seed: the same seed gives the same path.
        style: how the camera is carried; None chooses what suits the world.
        handling: what a person's hands and feet add; None is a smooth path.

    Returns:
        camera-to-world matrices in the world's own axes (z up), float64, (frames, 4, 4), OpenCV camera axes.

    Raises:
        ConfigError: the style is unknown, or does not go with the kind of world.
    """
    style = style or choose_style(world.kind, seed, handling)
    if style not in STYLES:
        raise ConfigError(f"unknown path style {style!r}; choose one of {', '.join(STYLES)}")
    rng = np.random.default_rng([seed, 3])
    motion = _MOTIONS[style]
    speed = float(np.exp(rng.uniform(*np.log(motion.speed))))
    if world.route is not None and style not in ("orbit", "closeup"):
        position, heading, pitch = _follow(world.route, rng, frames, motion, speed)
    elif world.route is not None or style in ("drive", "loop"):
        raise ConfigError(f"path style {style!r} does not go with a world of kind {world.kind!r}")
    elif style == "orbit":
        position, heading, pitch = _orbit(world, rng, frames, motion, speed)
    elif style == "closeup":
        position, heading, pitch = _close_up(world, rng, frames, motion, speed)
    elif style == "photos":
        position, heading, pitch = _photo_round(world, rng, frames, motion)
    else:
        position, heading, pitch = _roam(world, rng, frames, motion, speed)
    yaw = heading + motion.scan[0] * _wander(rng, frames, 60, 400)
    pitch = (
        pitch + motion.scan[1] * _wander(rng, frames, 40, 300) + 0.004 * _wander(rng, frames, 4, 15)
    )
    roll = motion.roll * _wander(rng, frames, 30, 200) + 0.004 * _wander(rng, frames, 4, 15)
    track = Track(position, yaw, pitch, roll)
    if style == "photos":
        track = _aimed_anew(track, rng)
    elif handling is not None:
        track = _handled(track, np.random.default_rng([seed, 7]), world, style, handling)
    return torch.from_numpy(_poses(track.position, track.yaw, track.pitch, track.roll))


def _handled(
    track: Track, rng: np.random.Generator, world: World, style: Style, handling: Handling
) -> Track:
    """A track as a person would have gone it, or as a car carries a camera."""
    stops, aside = rng.random(2) < (handling.hesitation, handling.sideways)
    if stops and style in ("handheld", "walk"):
        track = hesitant(track, rng)
    if aside and world.route is not None and style != "drive":
        track = replace(track, yaw=track.yaw + look_aside(rng))
    if handling.tilted and style not in ("orbit", "closeup") and rng.random() < handling.tilted:
        downwards = world.route is None and style == "handheld"
        track = replace(track, pitch=track.pitch + tilt(rng, downwards))
    strength = handling.shake * rng.uniform(0.3, 1.2) * (0.3 if style == "drive" else 1.0)
    return shaken(track, rng, strength) if strength > 0 else track


def _aimed_anew(track: Track, rng: np.random.Generator) -> Track:
    """A track whose every view was aimed by itself."""
    yaw, pitch, roll = rng.normal(0, np.array([[0.2], [0.08], [0.03]]), (3, len(track.yaw)))
    return Track(track.position, track.yaw + yaw, track.pitch + pitch, track.roll + roll)


def clearance(world: World, points: Array) -> Array:
    """Metres (N) from points (N, 3) to the nearest obstacle or wall; negative inside one."""
    low, high = world.floor
    room = (
        np.minimum(points - low, high - points).min(axis=1)
        if world.route is None
        else np.full(len(points), np.inf)
    )
    for obstacle in world.obstacles:
        local = np.abs((points - obstacle.centre) @ turn(obstacle.yaw)) - obstacle.half
        outside = np.linalg.norm(local.clip(min=0), axis=1)
        room = np.minimum(room, outside + local.max(axis=1).clip(max=0))
    return room


def _wander(rng: np.random.Generator, frames: int, shortest: float, longest: float) -> Array:
    """Smooth random values around 0, mostly within [-1, 1], with periods of that many frames."""
    periods = np.exp(rng.uniform(np.log(shortest), np.log(longest), 4))
    phases, weights = rng.uniform(0, 2 * np.pi, 4), rng.dirichlet(np.ones(4))
    return np.sin(2 * np.pi * np.arange(frames)[:, None] / periods + phases) @ weights


def _walked(rng: np.random.Generator, frames: int, speed: float) -> Array:
    """Distance covered until each frame, at a speed that varies by a fifth."""
    steps = speed * (1 + 0.2 * _wander(rng, frames, 30, 150))
    return np.concatenate([[0.0], np.cumsum(steps[1:])])


def _bob(rng: np.random.Generator, distance: Array, amplitude: float) -> Array:
    """Rise and fall of a walker, one cycle a step of about 0.7 m."""
    return amplitude * np.sin(2 * np.pi * distance / rng.uniform(0.6, 0.8))


def _poses(position: Array, yaw: Array, pitch: Array, roll: Array) -> Array:
    """Camera-to-world (T, 4, 4): yaw about the vertical from +x, pitch up, roll clockwise."""
    cos, sin, up, flat = np.cos(yaw), np.sin(yaw), np.sin(pitch), np.cos(pitch)
    forward = np.stack([cos * flat, sin * flat, up], -1)
    right = np.stack([sin, -cos, np.zeros_like(sin)], -1)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    poses = np.tile(np.eye(4), (len(position), 1, 1))
    poses[:, :3, 0], poses[:, :3, 1] = c * right + s * down, c * down - s * right
    poses[:, :3, 2], poses[:, :3, 3] = forward, position
    return poses


# -- carriers ----------------------------------------------------------------------------------


def _follow(
    route: Route,
    rng: np.random.Generator,
    frames: int,
    motion: _Motion,
    speed: float,
) -> tuple[Array, Array, Array]:
    """Along a route, slower round its corners; around and around closed ones."""
    line, heading = _line(route)
    passed = np.cumsum(1 + 0.2 * _wander(rng, frames, 30, 150))
    if route.closed:
        speed = _coming_round(heading, frames, speed, motion.turn)
        time = _arrival(heading, speed, motion.turn)
        laps = np.arange(int(2 + passed[-1] / time[-1]))[:, None]
        heading = (heading[:-1] + laps * (heading[-1] - heading[0])).ravel()
        time = (time[:-1] + laps * time[-1]).ravel()
        line = np.tile(line[:-1], (len(laps), 1))
        first, last = 0.0, time[-1]
    else:
        time = _arrival(heading, speed, motion.turn)
        lead = min(int(2.0 / _STEP), len(line) // 4)
        first, last = time[lead], time[-1 - lead]
        passed = passed * min(1.0, (last - first) / passed[-1])
    passed = passed - passed[0]
    clock = rng.uniform(first, max(first, last - passed[-1])) + passed
    place = np.stack([np.interp(clock, time, line[:, axis]) for axis in range(2)], -1)
    heading = np.interp(clock, time, heading)
    free = max(0.0, route.free - MARGIN)
    aside = min(motion.sway, free) * _wander(rng, frames, 60, 300) + rng.uniform(-0.4, 0.4) * free
    left = np.stack([-np.sin(heading), np.cos(heading)], -1)
    height = rng.uniform(*motion.height) + _bob(rng, passed * speed, motion.bob)
    position = np.column_stack([place + aside.clip(-free, free)[:, None] * left, height])
    return position, heading, np.full(frames, -0.05)


def _line(route: Route) -> tuple[Array, Array]:
    """Points (N, 2) along a route, `_STEP` apart, and the heading at each; closed ones end in their start."""
    corners = _rounded(route)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    places = np.linspace(0, along[-1], int(along[-1] / _STEP) + 1)
    reach = 0.5
    period = along[-1] if route.closed else None

    def at(where: Array) -> Array:
        return np.stack([np.interp(where, along, axis, period=period) for axis in corners.T], -1)

    ahead = at(places + reach) - at(places - reach)
    return at(places), np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))


def _arrival(heading: Array, speed: float, turn: float) -> Array:
    """Frames needed to reach each point of a line."""
    per_step = np.maximum(_STEP / speed, np.abs(np.diff(heading)) / turn)
    return np.concatenate([[0.0], np.cumsum(per_step)])


def _coming_round(heading: Array, frames: int, speed: float, turn: float) -> float:
    """A speed that leads past the start again; the given one if the frames do not suffice for that."""
    for faster in np.geomspace(speed, max(speed, _FASTEST_LOOP), 8):
        if _LAPS * _arrival(heading, faster, turn)[-1] < frames:
            return float(faster)
    return speed


def _rounded(route: Route) -> Array:
    """The middle line with a quarter circle at each corner."""
    radius = 0.5 * route.width
    points = route.points
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    pieces = []
    for index, corner in enumerate(points):
        if not route.closed and index in (0, len(points) - 1):
            pieces.append(corner[None])
            continue
        incoming = (corner - before[index]) / np.linalg.norm(corner - before[index])
        outgoing = (after[index] - corner) / np.linalg.norm(after[index] - corner)
        centre = corner + radius * (outgoing - incoming)
        angle = np.linspace(0, np.pi / 2, 33)[:, None]
        pieces.append(centre - radius * (np.cos(angle) * outgoing - np.sin(angle) * incoming))
    if route.closed:
        pieces.append(pieces[0][:1])
    return np.concatenate(pieces)


def _roam(
    world: World, rng: np.random.Generator, frames: int, motion: _Motion, speed: float
) -> tuple[Array, Array, Array]:
    """Through a room: ahead at a slowly changing heading, slower and turning where it gets narrow."""
    height = rng.uniform(*motion.height)
    place = _free_place(world, rng, height)
    course = rng.uniform(0, 2 * np.pi) + np.pi * _wander(rng, frames, 80, 500)
    turning, positions = 0.0, np.empty((frames, 3))
    side = rng.choice([-1.0, 1.0])
    pace = speed
    for frame in range(frames):
        positions[frame] = place
        angle = course[frame] + turning
        feelers = angle + np.array([0.0, 0.5, -0.5])
        ahead = np.stack([np.cos(feelers), np.sin(feelers), np.zeros(3)], -1)
        space = clearance(
            world, np.concatenate([place + 0.35 * ahead, place[None] + pace * ahead[:1]])
        )
        if space[:3].min() < MARGIN + 0.15:
            if space[1] != space[2]:
                side = np.sign(space[1] - space[2])
            turning += 0.06 * side
        pace += 0.1 * (speed * float(np.clip((space[0] - MARGIN) / 0.3, 0.05, 1)) - pace)
        if space[3] > MARGIN:
            place = place + pace * ahead[0]
        else:
            pace = 0.0
    distance = _walked(rng, frames, speed)
    positions[:, 2] += _bob(rng, distance, motion.bob)
    centre = (world.floor[0] + world.floor[1]) / 2
    inwards = np.arctan2(centre[1] - positions[:, 1], centre[0] - positions[:, 0])
    heading = _chase(np.unwrap(inwards) + rng.uniform(-1.0, 1.0), rate=0.03)
    return positions, heading, np.full(frames, rng.uniform(-0.3, 0.0))


def _chase(target: Array, rate: float) -> Array:
    """Follows target angles without ever turning by more than `rate` a frame."""
    result = target.copy()
    speed = 0.0
    for frame in range(1, len(target)):
        wanted = np.clip(0.1 * (target[frame] - result[frame - 1]), -rate, rate)
        speed += 0.2 * (wanted - speed)
        result[frame] = result[frame - 1] + speed
    return result


def _free_place(world: World, rng: np.random.Generator, height: float) -> Array:
    """A place in a room with as much space around it as some tries can find."""
    low, high = world.floor
    places = np.column_stack([rng.uniform(low[:2], high[:2], (64, 2)), np.full(64, height)])
    space = clearance(world, places)
    roomy = np.flatnonzero(space > MARGIN + 0.3)
    return places[rng.choice(roomy) if len(roomy) else int(space.argmax())]


def _orbit(
    world: World, rng: np.random.Generator, frames: int, motion: _Motion, speed: float
) -> tuple[Array, Array, Array]:
    """Around a thing or a place in a room, looking at it; shorter arcs where it gets narrow."""
    for attempt in range(60):
        height = rng.uniform(*motion.height)
        if world.obstacles and attempt < 40:
            target = world.obstacles[int(rng.integers(len(world.obstacles)))].centre
        else:
            target = _free_place(world, rng, height) - (0, 0, 0.5)
        radius = rng.uniform(0.5, 2.5)
        swing = min(speed / radius * frames, 2 * np.pi) * (1 if attempt < 30 else 0.3)
        start = rng.uniform(0, 2 * np.pi)
        angle = start + swing * rng.choice([-1, 1]) * np.linspace(0, 1, frames)
        reach = radius * (1 + 0.1 * _wander(rng, frames, 60, 300))
        rise = height + 0.1 * _wander(rng, frames, 60, 300)
        position = np.column_stack(
            [target[0] + reach * np.cos(angle), target[1] + reach * np.sin(angle), rise]
        )
        if clearance(world, position).min() > MARGIN:
            pitch = np.arctan2(target[2] - rise, reach)
            return position, angle + np.pi, pitch.clip(-0.7, 0.3)
    return _roam(world, rng, frames, motion, speed)


def _close_up(
    world: World, rng: np.random.Generator, frames: int, motion: _Motion, speed: float
) -> tuple[Array, Array, Array]:
    """Around a thing at arm's length, up and down, looking at its middle; shorter arcs in narrow places."""
    things = [each for each in world.obstacles if np.hypot(*each.half[:2]) < 1.2]
    for attempt in range(60 if things else 0):
        thing = things[int(rng.integers(len(things)))]
        radius = np.hypot(*thing.half[:2]) + rng.uniform(MARGIN + 0.02, 0.8)
        swing = min(speed / radius * frames, 2 * np.pi) * 0.96**attempt
        angle = rng.uniform(0, 2 * np.pi) + swing * rng.choice([-1, 1]) * np.linspace(0, 1, frames)
        reach = radius + 0.1 * (1 + _wander(rng, frames, 60, 300))
        rise = rng.uniform(*motion.height) + 0.25 * _wander(rng, frames, 80, 300)
        around = np.column_stack([np.cos(angle), np.sin(angle)])
        position = np.column_stack([thing.centre[:2] + reach[:, None] * around, rise])
        if clearance(world, position).min() > MARGIN:
            pitch = np.arctan2(thing.centre[2] - rise, reach)
            return position, angle + np.pi, pitch.clip(-1.0, 0.3)
    return _orbit(world, rng, frames, motion, speed)


def _photo_round(
    world: World, rng: np.random.Generator, frames: int, motion: _Motion
) -> tuple[Array, Array, Array]:
    """Photographs of one thing or place in a room from places around it, some 5 to 20 degrees apart."""
    target = _free_place(world, rng, 1.0)
    if world.obstacles and rng.random() < 0.7:
        target = world.obstacles[int(rng.integers(len(world.obstacles)))].centre
    angle = rng.uniform(0, 2 * np.pi)
    step = rng.choice([-1, 1]) * rng.uniform(0.08, 0.3)
    position = np.empty((frames, 3))
    for frame in range(frames):
        bearing = angle + step * rng.uniform(0.5, 1.5) + np.repeat(_DETOURS, 4)
        reach = np.linspace(0.8, 3.0, 4)[rng.permutation(4)] * rng.uniform(0.8, 1.2)
        reach = np.tile(reach, len(_DETOURS))
        around = np.column_stack([np.cos(bearing), np.sin(bearing)])
        height = np.full(len(reach), rng.uniform(*motion.height))
        places = np.column_stack([target[:2] + reach[:, None] * around, height])
        free = np.flatnonzero(clearance(world, places) > MARGIN)
        if len(free):
            position[frame], angle = places[free[0]], bearing[free[0]]
        else:
            position[frame] = _free_place(world, rng, height[0])
        if not len(free) or free[0] >= 4:  # something is in the way: go back round
            step = -step
    away = target - position
    pitch = np.arctan2(away[:, 2], np.linalg.norm(away[:, :2], axis=1))
    return position, np.arctan2(away[:, 1], away[:, 0]), pitch.clip(-0.9, 0.3)
