"""Training checkpoints: small enough to travel, written whole or not at all.

Weights are kept in float32, the optimiser's moments in bfloat16 (12 bytes a parameter become 8). So
that a run that stops and resumes gives the same weights as one that does not, the moments in use are
rounded as well whenever a checkpoint is written.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import AdamW

from mem3r_plugin.errors import WeightsError
from mem3r_plugin.model.checkpoint import save_tensors
from mem3r_plugin.training.config import TrainingConfig
from mem3r_plugin.training.sharding import shared_like, whole

MOMENTS = ("exp_avg", "exp_avg_sq")


def save_training(
    path: Path,
    learner: nn.Module,
    optimiser: AdamW,
    step: int,
    config: TrainingConfig,
    *,
    writes: bool = True,
) -> None:
    """Write weights, those of heads that only training needs too, moments, and the number of steps done.

    If several processes share the tensors, all must call this, and the one that `writes` does.
    """
    round_moments(optimiser)
    tensors = {f"weights.{name}": t.detach() for name, t in learner.state_dict().items()}
    for name, moments in _moments(learner, optimiser):
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = moments[moment].bfloat16()
    on_cpu = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor)
        if writes:
            on_cpu[name] = gathered.cpu().contiguous()
    if writes:
        metadata = {"step": str(step), "config": json.dumps(asdict(config), default=str)}
        save_tensors(path, on_cpu, metadata)


def load_training(path: Path, learner: nn.Module, optimiser: AdamW) -> int:
    """Restore what `save_training` wrote; returns the number of steps done.

    Raises:
        WeightsError: the file is damaged or belongs to another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            step = int((file.metadata() or {})["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k[:8] == "weights."}
        now = learner.state_dict()
        learner.load_state_dict({k: shared_like(v, now.get(k, v)) for k, v in weights.items()})
    except (SafetensorError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} is no checkpoint of this training run: {reason}") from error
    for name, parameter in learner.named_parameters():
        if f"{MOMENTS[0]}.{name}" in tensors:
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step)),
                **{m: shared_like(tensors[f"{m}.{name}"], parameter) for m in MOMENTS},
            }
    return step


def round_moments(optimiser: AdamW) -> None:
    """Round the moments in use to what a checkpoint keeps of them."""
    for state in optimiser.state.values():
        for moment in MOMENTS:
            state[moment].copy_(state[moment].bfloat16())


def _moments(learner: nn.Module, optimiser: AdamW) -> list[tuple[str, dict[str, Tensor]]]:
    return [
        (name, optimiser.state[parameter])
        for name, parameter in learner.named_parameters()
        if parameter in optimiser.state
    ]
