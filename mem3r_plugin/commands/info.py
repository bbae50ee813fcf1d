"""`mem3r info`: what a network is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.model import NetworkConfig, ReconstructionNetwork


@dataclass(frozen=True)
class Info:
    """Count the parameters of a network, without its weights and without allocating any."""

    model: str = "mem3r"
    """Name of a preset, or a YAML file of your own."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __call__(self) -> None:
        """Print the total and the share of each part."""
        parts = count_parameters(load_preset("model", self.model, NetworkConfig()))
        total = sum(parts.values())
        if self.json:
            print(json.dumps({"model": self.model, "parameters": total, "parts": parts}, indent=2))
            return
        table = Table("part", "parameters", title=self.model)
        table.columns[1].justify = "right"
        for name, count in parts.items():
            table.add_row(name, f"{count:,}")
        table.add_section()
        table.add_row("total", f"{total:,}")
        Console().print(table)


def count_parameters(config: NetworkConfig) -> dict[str, int]:
    """Parameters of every direct part of a network, by name; shared ones count once."""
    with torch.device("meta"):
        network = ReconstructionNetwork(config)
    parts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel()
    return parts


def parse(arguments: Sequence[str]) -> Info:
    """Read the options of `mem3r info`."""
    return parse_options(Info, "info", arguments)
