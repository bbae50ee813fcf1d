"""`mem3r train`: train or fine-tune a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.training.config import TrainingConfig
from mem3r_plugin.training.trainer import train


@dataclass(frozen=True)
class Train:
    """Train a network as a YAML file says, or fine-tune Mem3R from CUT3R's weights.

    Stopped at any moment, the same command goes on from the last checkpoint in the output folder.
    """

    config: tyro.conf.Positional[str]
    """A preset of `configs/training`, or a YAML file of your own."""
    output: Path
    """Folder of the run: checkpoint, weights, log and curves."""
    minutes: float | None = None
    """Stop after so many minutes, ready to go on; by default the training is finished."""
    model: str | None = None
    """Another network than the file says: a preset of `configs/model`, or a YAML file of your own."""
    start: str | None = None
    """Other weights to start from than the file says."""
    seed: int | None = None
    """Another seed than the file says."""

    def __call__(self) -> None:
        """Train and report."""
        base = load_preset("training", self.config, TrainingConfig())
        config = replace(
            base,
            model=self.model or base.model,
            start=self.start or base.start,
            seed=base.seed if self.seed is None else self.seed,
        )
        weights = train(config, self.output, minutes=self.minutes)
        print(f"{weights}: weights of {config.model}")


def parse(arguments: Sequence[str]) -> Train:
    """Read the options of `mem3r train`."""
    return parse_options(Train, "train", arguments)
