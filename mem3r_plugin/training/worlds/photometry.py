"""What a real camera adds to a clean picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_BRIGHTNESS = 0.42
"""Mean brightness that automatic exposure aims at."""
_GREY = 0.3
"""Share of graded sequences without colour."""


def disturb(images: Tensor, seed: int, metering: float = 0.0) -> Tensor:
    """Automatic exposure, white balance, tone curve, vignetting, blur and noise.

    All are drawn once a sequence; only the exposure changes.

    Args:
        images: RGB in [0, 1], (T, 3, H, W).
        seed: the same seed gives the same disturbance on the same kind of device.
        metering: how much of the way to the right brightness the exposure goes from one view to the next;
            at 0 it drifts and does not mind the pictures.

    Returns:
        images of the same shape, in [0, 1].
    """
    rng = np.random.default_rng([seed, 4])
    frames, width = images.shape[0], images.shape[-1]
    exposure = _BRIGHTNESS / float(images.mean().clamp(min=0.05)) * np.exp2(rng.normal(0, 0.25))
    drift = np.exp2(0.2 * _drift(rng, frames))
    gain = exposure * (_metered(images, metering) if metering > 0 else drift)
    balance = np.exp(rng.normal(0, 0.06, 3))
    gains = images.new_tensor(gain[:, None] * balance)[:, :, None, None]
    images = (images * gains) ** float(np.exp(rng.normal(0, 0.12)))
    images = images * _vignette(images, strength=float(rng.uniform(0, 0.35)))
    if rng.random() < 0.4:
        images = _blur(images, sigma=float(rng.uniform(0.3, 0.9)) * width / 256)
    generator = torch.Generator(images.device).manual_seed(seed % 2**63)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    read, shot = rng.uniform(0, 0.012), rng.uniform(0, 0.0008)
    return (images + noise * (read**2 + shot * images.clamp(min=0)).sqrt()).clamp(0, 1)


def grade(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Another camera's look: brightness, contrast, tone, colour and sharpness, the same for all views.

    `disturb` stays near what one good camera makes of a scene. This goes as far as cameras differ, among
    them grey ones with any sensitivity to colours. It costs little, so it can be drawn at every use.

    Args:
        images: RGB in [0, 1], (T, 3, H, W).
        rng: the only source of chance.

    Returns:
        images of the same shape, in [0, 1].
    """
    sharpness = float(rng.uniform(-0.5, 1.0))
    soft = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    images = (images + sharpness * (images - soft)).clamp(0, 1)
    grey = torch.einsum("tchw,c->thw", images, images.new_tensor(rng.dirichlet(np.full(3, 2.0))))
    colour = 0.0 if rng.random() < _GREY else float(rng.uniform(0.3, 1.6))
    images = torch.lerp(grey[:, None], images, colour).clamp(0, 1)
    tone, contrast = np.exp(rng.normal(0, 0.3, 2))
    gains = np.exp2(rng.normal(0, 0.4)) * np.exp(rng.normal(0, 0.08 if colour else 0.0, 3))
    images = images**tone * images.new_tensor(gains)[:, None, None]
    middle = images.mean()
    return ((images - middle) * contrast + middle).clamp(0, 1)


def _drift(rng: np.random.Generator, frames: int) -> np.ndarray:
    periods, phases = np.exp(rng.uniform(3, 6, 3)), rng.uniform(0, 2 * np.pi, 3)
    return np.sin(2 * np.pi * np.arange(frames)[:, None] / periods + phases).mean(axis=1)


def _metered(images: Tensor, rate: float) -> np.ndarray:
    """Gains (T) that follow the brightness of the middle of the pictures, late, around their mean of 1."""
    height, width = images.shape[-2:]
    middle = images[..., height // 6 : height - height // 6, width // 6 : width - width // 6]
    wanted = -np.log(middle.mean((1, 2, 3)).clamp(min=0.02).double().cpu().numpy())
    gain = wanted.copy()
    for view in range(1, len(gain)):
        gain[view] = gain[view - 1] + rate * (wanted[view] - gain[view - 1])
    return np.asarray(np.exp(gain - gain.mean()))


def _vignette(images: Tensor, strength: float) -> Tensor:
    height, width = images.shape[-2:]
    y = torch.linspace(-1, 1, height, device=images.device)[:, None]
    x = torch.linspace(-1, 1, width, device=images.device)[None]
    return 1 - strength * (x**2 + y**2) / 2


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur by sums of shifted pictures, faster on a CPU than convolutions of one channel."""
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for dim, padding in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded, size = functional.pad(images, padding, mode="replicate"), images.shape[dim]
        images = torch.zeros_like(images)
        for shift, weight in enumerate(weights):
            images.add_(padded.narrow(dim, shift, size), alpha=float(weight))
    return images
