"""The training loop: steps, checkpoints, logs, and nothing that decides what is learned."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.optim import AdamW

from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import ConfigError, Mem3RError
from mem3r_plugin.model.blocks import DecoderBlock, EncoderBlock
from mem3r_plugin.model.checkpoint import read_checkpoint, write_checkpoint
from mem3r_plugin.model.config import NetworkConfig
from mem3r_plugin.model.convert import network_from
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.model.weights import find_weights, random_network
from mem3r_plugin.training.batch import SequenceBatch, WorldBatches, batch_loader
from mem3r_plugin.training.checkpoint import load_training, save_training
from mem3r_plugin.training.config import TrainingConfig
from mem3r_plugin.training.losses import total_loss
from mem3r_plugin.training.matching import begin_by_copying
from mem3r_plugin.training.schedule import build_optimiser, learning_rate, set_learning_rate
from mem3r_plugin.training.sharding import shard, whole, whole_network
from mem3r_plugin.training.unroll import UnrolledNetwork
from mem3r_plugin.training.validation import validate

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"
MAX_SHAPES = 64
"""Shapes of batches for which a block is compiled, every stage and crop being one; torch's 8 are too few."""


def train(config: TrainingConfig, output: Path, *, minutes: float | None = None) -> Path:
    """Train until the curriculum ends or the time is up; continues what already lies in `output`.

    Leaves `checkpoint.safetensors` (to resume), `weights.safetensors` (to use), `log.jsonl` and TensorBoard
    curves. Killed at any moment it loses the steps since the last checkpoint and no more.

    Args:
        config: what to train.
        output: folder of the run.
        minutes: stop after so many minutes, ready to be resumed; None trains to the end.

    Returns:
        the file of weights.

    Raises:
        Mem3RError: nothing to train with, another network lies in `output`, or the loss is not finite.
    """
    return Trainer(config, output).run(minutes)


def starting_network(config: TrainingConfig) -> ReconstructionNetwork:
    """The network training starts from: random, from weights, or made of those of another network."""
    network_config = load_preset("model", config.model, NetworkConfig())
    network_config = replace(network_config, picture_size=max(config.data.first_shape))
    if config.start is None:
        network = random_network(network_config, config.seed)
    else:
        checkpoint = read_checkpoint(find_weights(config.start))
        network = network_from(
            checkpoint, network_config, any_variant=config.transplant, seed=config.seed
        )
    if config.copying_start:
        begin_by_copying(network)
    return network


def compile_blocks(network: ReconstructionNetwork) -> None:
    """Let `torch.compile` fuse what each transformer block does; names of parameters stay.

    Raises:
        ConfigError: there is no C++ compiler.
    """
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise ConfigError(
            "compile: true needs a C++ compiler, such as g++, on the PATH; or leave it out"
        )
    torch._dynamo.config.recompile_limit = MAX_SHAPES
    for module in network.modules():
        if isinstance(module, EncoderBlock | DecoderBlock):
            module.compile()


@dataclass
class Progress:
    """What is summed up between two lines of the log."""

    started: float
    steps: int = 0
    views: int = 0
    waited: float = 0.0
    terms: dict[str, float] | None = None

    def add(self, terms: dict[str, Tensor], views: int, waited: float) -> None:
        """Count one step."""
        self.steps += 1
        self.views += views
        self.waited += waited
        sums = self.terms or {}
        self.terms = {k: sums.get(k, 0.0) + float(v.detach()) for k, v in terms.items()}

    def means(self) -> dict[str, float]:
        """Mean terms, frames per second, and the share of the time spent waiting for data."""
        seconds = time.monotonic() - self.started
        terms = {name: value / self.steps for name, value in (self.terms or {}).items()}
        return {
            **terms,
            "frames_per_second": self.views / seconds,
            "waiting": self.waited / seconds,
        }


class Trainer:
    """One training run in one folder."""

    def __init__(self, config: TrainingConfig, output: Path) -> None:
        self.config = config
        self.output = output
        self.console = Console()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.accelerator = _accelerator(config)
        self.network = starting_network(config).train()
        self.learner = UnrolledNetwork(
            self.network,
            config.loss,
            config.truncate,
            config.checkpoint_activations,
        )
        if config.compile:
            compile_blocks(self.network)
        self.sharded = config.shard and self.accelerator.num_processes > 1
        if self.sharded:
            shard(self.learner.to(self.accelerator.device))
        self.optimiser: AdamW = build_optimiser(self.learner, config.optimiser)
        self.step = 0
        if self.checkpoint.is_file():
            self.step = load_training(self.checkpoint, self.learner, self.optimiser)
            self.console.print(f"resuming {output} at step {self.step} of {config.steps}")
        self.unrolled = self.learner if self.sharded else self.accelerator.prepare(self.learner)
        self.optimiser = self.accelerator.prepare(self.optimiser)
        self.board = _tensorboard(output) if self.accelerator.is_main_process else None

    @property
    def checkpoint(self) -> Path:
        """Where the run is saved."""
        return self.output / CHECKPOINT

    def run(self, minutes: float | None) -> Path:
        """Train until the end, or for so many minutes; Ctrl-C saves before it stops."""
        try:
            self.take_steps(minutes)
        except KeyboardInterrupt:
            if not self.sharded:  # gathering needs every process at one place
                self.save()
            self.console.print(f"stopped at step {self.step}; the same command goes on from there")
            raise
        self.save()
        return self.output / WEIGHTS

    def take_steps(self, minutes: float | None) -> None:
        """Take steps until the end, or for so many minutes."""
        started = saved = time.monotonic()
        progress = Progress(started)
        batches = self.batches()
        while self.step < self.config.steps:
            asked = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - asked
            terms = self.train_step(batch.to(self.accelerator.device))
            self.step += 1
            views = batch.images.shape[0] * batch.images.shape[1] * self.accelerator.num_processes
            progress.add(terms, views, waited)
            if self.step % self.config.log_every == 0:
                self.log("train", progress.means())
                progress = Progress(time.monotonic())
            if self.step % self.config.validate_every == 0:
                self.validate()
            now = time.monotonic()
            if self.together(now - saved > 60 * self.config.checkpoint_minutes):
                self.save()
                saved = now
            if minutes is not None and self.together(now - started > 60 * minutes):
                return

    def batches(self) -> Iterator[SequenceBatch]:
        """Batches from the next step on."""
        accelerator = self.accelerator
        in_place = self.config.data.workers == 0
        return iter(
            batch_loader(
                WorldBatches(
                    self.config,
                    self.step,
                    accelerator.process_index,
                    accelerator.num_processes,
                    device=str(accelerator.device) if in_place else "cpu",
                )
            )
        )

    def train_step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One optimiser step; returns the loss terms.

        Raises:
            Mem3RError: the gradient is not finite; the last checkpoint is kept.
        """
        config = self.config
        rate = learning_rate(self.step, config.steps, config.optimiser)
        set_learning_rate(self.optimiser, rate)
        with self.accelerator.autocast():
            stage = config.stage_at(self.step)
            asked = self.view_asked_by_rays(batch)
            terms: dict[str, Tensor] = self.unrolled(
                batch, asked, stage.dense_views, stage.encoder_only
            )
            loss = total_loss(terms, config.loss)
        self.optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.unrolled.parameters(), config.optimiser.clip)
        norm = None if norm is None else whole(norm)
        if norm is not None and not torch.isfinite(norm):
            raise Mem3RError(
                f"loss {loss.item():.4g} with gradient norm {norm.item():.4g} at step {self.step}; "
                f"{self.checkpoint} is kept, resume with a lower optimiser.learning_rate or precision: no"
            )
        self.optimiser.step()
        return terms

    def view_asked_by_rays(self, batch: SequenceBatch) -> int | None:
        """Every second step, if colours are trained, a view after the first is given by its rays alone."""
        if not self.config.loss.rgb or self.step % 2:
            return None
        views = batch.images.shape[1]
        return int(np.random.default_rng([self.config.seed, self.step]).integers(1, views))

    def validate(self) -> None:
        """Measure on held-back worlds and log it."""
        network = whole_network(self.network)
        if self.accelerator.is_main_process:
            network.eval()
            self.log("validation", validate(network, self.config.data.first_shape))
            network.train()

    def log(self, kind: str, values: dict[str, float]) -> None:
        """Write a line to the log, the curves and the terminal."""
        if self.board is None:
            return
        with (self.output / LOG).open("a") as file:
            file.write(json.dumps({"kind": kind, "step": self.step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(f"{kind}/{name}", value, self.step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.console.print(f"{kind} {self.step}/{self.config.steps}  {shown}", highlight=False)

    def save(self) -> None:
        """Write the checkpoint and the weights."""
        main = self.accelerator.is_main_process
        if main or self.sharded:
            save_training(
                self.checkpoint,
                self.learner,
                self.optimiser,
                self.step,
                self.config,
                writes=main,
            )
        network = whole_network(self.network)
        if main:
            write_checkpoint(network, self.output / WEIGHTS)

    def together(self, wanted: bool) -> bool:
        """What the main process wants, in all processes: clocks differ, and saving or stopping needs all."""
        if self.accelerator.num_processes == 1:
            return wanted
        decision = torch.tensor([wanted], dtype=torch.int64, device=self.accelerator.device)
        torch.distributed.broadcast(decision, src=0)
        return bool(decision)


def _accelerator(config: TrainingConfig) -> Accelerator:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise ConfigError('training needs accelerate: pip install "mem3r-plugin[train]"') from error
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Without being told, accelerate takes processes on a CPU for runs of their own.
    return Accelerator(
        mixed_precision=config.precision,
        cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        kwargs_handlers=[unused],
    )


def _tensorboard(output: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            'training needs tensorboard: pip install "mem3r-plugin[train]"'
        ) from error
    return SummaryWriter(str(output / "tensorboard"))
