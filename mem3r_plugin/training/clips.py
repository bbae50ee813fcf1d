"""Clips of rendered worlds, kept on disk and cut into other sequences at every use.

Rendering a picture takes about as long as learning from it. A clip that is kept can be cut at many places and
strides and mirrored, so its rendering is paid once. It is never played backwards: that people go where they
look is worth knowing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import interpolate

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.model.checkpoint import save_tensors
from mem3r_plugin.training.config import DataConfig
from mem3r_plugin.training.worlds import RenderedViews, WorldConfig, sample_batch

MIRROR = torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
"""Diagonal of the reflection that swaps left and right in camera and world alike."""


@dataclass(frozen=True)
class Clips:
    """The clips of a training run; the same seed gives the same clip, kept or not."""

    config: DataConfig
    """What is rendered, and the folder it is kept in."""

    @cached_property
    def folder(self) -> Path:
        """Where clips made with these settings lie; other settings have other folders."""
        assert self.config.keep is not None
        decisive = _unlike(asdict(self.config), asdict(DataConfig()))
        for name in ("keep", "clips", "workers", "far", "shapes", "grading"):
            decisive.pop(name, None)
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode())
        return self.config.keep / digest.hexdigest()[:12]

    def clip(self, seed: int) -> KeptClip:
        """The clip of one seed, rendered if it is not there yet."""
        path = self.folder / f"{seed:09d}.safetensors"
        if not path.is_file():
            data = self.config
            _write(render_sequences(data, [seed], data.clip_frames, data.clip_stride)[0], path)
        return KeptClip(path)


@dataclass(frozen=True)
class KeptClip:
    """A clip on disk, of which only the frames that are asked for are read."""

    path: Path

    def __len__(self) -> int:
        """How many frames it has."""
        with safe_open(self.path, framework="pt") as file:
            return int(file.get_slice("images").get_shape()[0])

    def frames(self, chosen: Tensor) -> RenderedViews:
        """The frames of these indices."""
        with safe_open(self.path, framework="pt") as file:
            images, depth = (
                torch.stack([stored[index] for index in chosen.tolist()])
                for stored in map(file.get_slice, ("images", "depth"))
            )
            return RenderedViews(
                images.float() / 255,
                depth.float(),
                file.get_tensor("camera_to_world")[chosen],
                Intrinsics(**json.loads(file.metadata()["camera"])),
            )


def render_sequences(
    data: DataConfig, seeds: list[int], frames: int, stride: int, device: str = "cpu"
) -> list[RenderedViews]:
    """A sequence of each seed, as the settings want them."""
    return sample_batch(
        seeds,
        frames,
        data.size,
        device=device,
        stride=stride,
        supersample=data.supersample,
        config=WorldConfig(
            textures=data.textures,
            photo_share=data.photo_share,
            things=data.things,
            thing_share=data.thing_share,
            greenery=data.greenery,
            sobriety=data.sobriety,
        ),
        handling=data.handling,
        effects=data.effects,
    )


def cut(
    clip: RenderedViews | KeptClip, views: int, stride: int, rng: np.random.Generator
) -> RenderedViews:
    """A sequence from a random place of a clip, mirrored or not.

    Args:
        clip: at least as many frames as `views`.
        views: how many frames are wanted.
        stride: frames of the clip from one to the next; less where the clip is too short for it.
        rng: the only source of chance.

    Returns:
        views whose world is the first camera's frame.
    """
    frames = len(clip)
    stride = max(1, min(stride, (frames - 1) // max(1, views - 1)))
    start = int(rng.integers(frames - (views - 1) * stride))
    chosen = torch.arange(start, start + (views - 1) * stride + 1, stride)
    part = clip.frames(chosen)
    images, depth, poses = part.images, part.depth, part.camera_to_world
    if rng.random() < 0.5:
        images, depth = images.flip(-1), depth.flip(-1)
        poses = MIRROR[:, None] * poses * MIRROR
    poses = torch.linalg.inv(poses[:1]) @ poses
    poses[0] = torch.eye(4, dtype=poses.dtype)
    return RenderedViews(images, depth, poses, part.intrinsics)


def reframed(
    views: RenderedViews, size: tuple[int, int], rng: np.random.Generator
) -> RenderedViews:
    """The middle of the pictures in another shape, seen through a longer lens or not.

    Args:
        views: pictures of at least `size`.
        size: width and height of the result.
        rng: draws what is cut out, evenly in the logarithm from the largest box of that shape to one of
            `size` itself.
    """
    camera, (width, height) = views.intrinsics, size
    largest = min(camera.width / width, camera.height / height)
    scale = largest ** rng.random()
    box_width, box_height = round(scale * width), round(scale * height)
    left, top = (camera.width - box_width) // 2, (camera.height - box_height) // 2
    record = ImageTransform.identity((camera.width, camera.height))
    record = record.cropped(left, top, box_width, box_height)
    middle = (..., slice(top, top + box_height), slice(left, left + box_width))
    images, depth = views.images[middle], views.depth[middle]
    if (box_width, box_height) != size:
        record = record.resized(width, height)
        images = interpolate(images, size[::-1], mode="bilinear", antialias=True)
        depth = interpolate(depth[:, None], size[::-1], mode="nearest-exact")[:, 0]
    return RenderedViews(images, depth, views.camera_to_world, record.intrinsics(views.intrinsics))


def _unlike(settings: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not as usual, so that a new one that is off leaves the clips of recipes alone."""
    groups = {
        key: _unlike(each, usual[key]) for key, each in settings.items() if isinstance(each, dict)
    }
    single = {
        key: each for key, each in settings.items() if key not in groups and each != usual[key]
    }
    return single | {key: group for key, group in groups.items() if group}


def _write(views: RenderedViews, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    camera = views.intrinsics
    tensors = {
        "images": (views.images * 255).round().to(torch.uint8),
        "depth": views.depth.half(),
        "camera_to_world": views.camera_to_world,
    }
    save_tensors(path, tensors, {"camera": json.dumps(asdict(camera))})
