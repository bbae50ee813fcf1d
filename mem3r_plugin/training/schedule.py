"""The optimiser and its learning rate."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW

from mem3r_plugin.training.config import OptimiserConfig


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> AdamW:
    """AdamW that decays matrices and kernels, but no biases, norms or tokens."""
    matrices = [p for name, p in network.named_parameters() if _is_matrix(name, p)]
    others = [p for name, p in network.named_parameters() if not _is_matrix(name, p)]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(step: int, total: int, config: OptimiserConfig) -> float:
    """Linear warm-up, then a cosine down to `final_fraction` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * cosine)


def set_learning_rate(optimiser: AdamW, rate: float) -> None:
    """Use `rate` for the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and name.endswith(".weight")
