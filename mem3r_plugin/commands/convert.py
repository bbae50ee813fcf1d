"""`mem3r convert`: checkpoints into safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.model.convert import convert_checkpoint


@dataclass(frozen=True)
class Convert:
    """Turn a checkpoint (CUT3R's .pth, or safetensors) into safetensors of this package.

    With `--to mem3r` a CUT3R becomes the start of a Mem3R: the pose retriever is dropped, and the new
    parts are initialised so that the first outputs stay close to CUT3R's. Train it before use.
    """

    source: tyro.conf.Positional[Path]
    """The checkpoint."""
    output: tyro.conf.Positional[Path]
    """The safetensors file."""
    to: str = "cut3r"
    """Name of the model preset the result is for, or a YAML file of your own."""
    average: Path | None = None
    """Another checkpoint of that model, averaged with the first: after training for something new, some of
    the weights it began with keep what would be forgotten."""
    share: float = 0.5
    """Of `average` in the mean, 0 to 1."""

    def __call__(self) -> None:
        """Convert and report."""
        config = load_preset("model", self.to, NetworkConfig())
        network = convert_checkpoint(self.source, self.output, config, self.average, self.share)
        count = sum(parameter.numel() for parameter in network.parameters())
        print(f"{self.output}: {config.name}, {count:,} parameters")


def parse(arguments: Sequence[str]) -> Convert:
    """Read the options of `mem3r convert`."""
    return parse_options(Convert, "convert", arguments)
