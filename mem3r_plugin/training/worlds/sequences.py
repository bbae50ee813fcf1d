"""Ready sequences: a world, a path and a camera drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.training.worlds.effects import CameraEffects, take
from mem3r_plugin.training.worlds.handling import Handling
from mem3r_plugin.training.worlds.paths import Style, choose_style, sample_path, typical_speed
from mem3r_plugin.training.worlds.render import RenderedViews, render
from mem3r_plugin.training.worlds.scenes import (
    Kind,
    World,
    WorldConfig,
    choose_kind,
    generate_world,
)

HELD_BACK = 1_000_000_000
"""Seeds from here on are never trained on; training draws its seeds below."""
_FIELDS_OF_VIEW = (45.0, 90.0)
"""Smallest and largest horizontal field of view in degrees."""
_STILL = 0.003
"""Radians by which a photographer's camera turns in a path frame, about each axis."""


@dataclass(frozen=True)
class _Plan:
    """Everything about a sequence but its pictures."""

    world: World
    poses: Tensor
    motion: Tensor
    """Of the camera during a path frame, in its own axes, (T, 4, 4)."""
    intrinsics: Intrinsics


def sample_sequence(
    seed: int,
    frames: int,
    size: tuple[int, int],
    kind: Kind | None = None,
    device: torch.device | str = "cpu",
    *,
    style: Style | None = None,
    stride: int = 1,
    photometric: bool = True,
    supersample: int = 1,
    config: WorldConfig | None = None,
    handling: Handling | None = None,
    effects: CameraEffects | None = None,
) -> RenderedViews:
    """One sequence; the same arguments give the same sequence.

    Args:
        seed: training uses seeds below `HELD_BACK`, evaluation those from it on.
        frames: number of views.
        size: width and height of the pictures.
        kind: kind of world; None draws one.
        device: where to render.
        style: how the camera is carried; None draws what suits the world.
        stride: path frames, of 15 to 30 a second, from one view to the next.
        photometric: whether exposure, noise and the like disturb the pictures.
        supersample: side of the grid of samples averaged for each pixel's colour.
        config: more about the world; its length is replaced by what the path needs.
        handling: what a person's hands and feet do to the path; None is a smooth one.
        effects: more of what a real camera does to the pictures, where `photometric` is on.

    Returns:
        views whose world is the first camera, so that the first pose is the identity.
    """
    return sample_batch(
        [seed],
        frames,
        size,
        kind,
        device,
        style=style,
        stride=stride,
        photometric=photometric,
        supersample=supersample,
        config=config,
        handling=handling,
        effects=effects,
    )[0]


def sample_batch(
    seeds: list[int],
    frames: int,
    size: tuple[int, int],
    kind: Kind | None = None,
    device: torch.device | str = "cpu",
    *,
    style: Style | None = None,
    stride: int = 1,
    photometric: bool = True,
    supersample: int = 1,
    config: WorldConfig | None = None,
    handling: Handling | None = None,
    effects: CameraEffects | None = None,
) -> list[RenderedViews]:
    """`sample_sequence` for several seeds, rendered together, which keeps a GPU busy."""
    plans = [
        _plan(seed, frames, stride, size, kind, style, config, handling, device) for seed in seeds
    ]
    poses = torch.stack([plan.poses for plan in plans]).to(device)
    images, depth = render(
        [plan.world.primitives for plan in plans],
        [plan.world.lighting for plan in plans],
        plans[0].world.pool,
        poses,
        [plan.intrinsics for plan in plans],
        supersample,
        [plan.world.meshes for plan in plans],
    )
    anchored = torch.linalg.inv(poses[:, :1]) @ poses
    anchored[:, 0] = torch.eye(4, dtype=anchored.dtype, device=anchored.device)
    if photometric:
        effects = effects or CameraEffects()
        images = torch.stack(
            [
                take(images[i], depth[i], plan.motion, plan.intrinsics, seed, effects, stride)
                for i, (seed, plan) in enumerate(zip(seeds, plans, strict=True))
            ]
        )
    return [
        RenderedViews(images[i], depth[i], anchored[i], plan.intrinsics)
        for i, plan in enumerate(plans)
    ]


def sample_camera(rng: np.random.Generator, size: tuple[int, int]) -> Intrinsics:
    """A camera of some field of view for pictures of `size` = (width, height)."""
    angle = np.radians(rng.uniform(*_FIELDS_OF_VIEW))
    return Intrinsics.centred(float(0.5 * size[0] / np.tan(angle / 2)), *size)


def _plan(
    seed: int,
    frames: int,
    stride: int,
    size: tuple[int, int],
    kind: Kind | None,
    style: Style | None,
    config: WorldConfig | None,
    handling: Handling | None,
    device: torch.device | str,
) -> _Plan:
    rng = np.random.default_rng([seed, 0])
    config = config or WorldConfig()
    kind = kind or config.kind or choose_kind(seed)
    style = style or choose_style(kind, seed, handling)
    pace = 1 if style == "photos" else stride  # every frame of such a path is a photograph
    way = 1.5 * typical_speed(style) * frames * pace
    # Long enough to get there; loops short enough to come round again when there are frames enough.
    length = float(np.clip(way / 2.2, 16, 120)) if kind == "loop" else float(np.clip(way, 25, 1500))
    world = generate_world(replace(config, kind=kind, length=length), seed, device)
    camera = sample_camera(rng, size)
    path = sample_path(world, frames * pace, seed, style, handling)
    motion = _held_still(seed, frames) if style == "photos" else _motion(path)[::pace]
    return _Plan(world, path[::pace], motion, camera)


def _motion(path: Tensor) -> Tensor:
    """From each pose (T, 4, 4) to the next one; the last goes on as the one before."""
    steps = torch.linalg.inv(path[:-1]) @ path[1:]
    return torch.cat([steps, steps[-1:]]) if len(steps) else torch.eye(4).to(path)[None]


def _held_still(seed: int, frames: int) -> Tensor:
    """Motions (T, 4, 4) of hands that try not to move."""
    rng = np.random.default_rng([seed, 9])
    motion = np.tile(np.eye(4), (frames, 1, 1))
    motion[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, _STILL, (frames, 3))).as_matrix()
    return torch.from_numpy(motion)
