"""Measure weights for their model card: held-back worlds, and real sequences with ground truth.

    python benchmarks/model_card.py --weights mem3r-tiny --output benchmarks/results/mem3r-tiny.json

Real sequences are folders in the layout of `PosedSequence`; every picture goes through `mem3r run` and
the result is compared after a similarity alignment (poses) and one median scale (depth). Beside each
error stands that of the trivial baseline: a camera that never moves, and the mean depth of the training
worlds.
"""

from __future__ import annotations

import json
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mem3r_plugin.configuration import load_preset
from mem3r_plugin.evaluation import PosedSequence, evaluate_scan
from mem3r_plugin.files import atomic_path
from mem3r_plugin.model import NetworkConfig, load_rule
from mem3r_plugin.model.weights import load_network, weights_digest
from mem3r_plugin.stream.preprocess import four_by_three
from mem3r_plugin.stream.run import RunConfig, run
from mem3r_plugin.training.validation import mean_depth, validate

SHARED = Path(__file__).parents[2] / "shared" / "data"


@dataclass(frozen=True)
class ModelCard:
    """What to measure."""

    weights: str
    """Bundled name or file."""
    output: Path
    """JSON file of the results."""
    model: str = "mem3r-tiny"
    """Preset of the network."""
    update: str = "ttt3r"
    """Update rule; held-back worlds are measured with `plain` as well."""
    data: Path = SHARED
    """Folder of real sequences; left out where it does not exist."""
    worlds: int = 40
    """Held-back worlds."""
    views: tuple[int, ...] = (16, 100)
    """Lengths at which held-back worlds are measured."""


def main(card: ModelCard) -> None:
    """Measure, write the JSON, print tables."""
    size = four_by_three(load_preset("model", card.model, NetworkConfig()).picture_size)
    network = load_network(card.model, card.weights)
    results: dict[str, Any] = {
        "weights_sha256": weights_digest(card.weights),
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "worlds": {
            f"{views} views, {rule}": validate(
                network, size, sequences=card.worlds, views=views, rule=load_rule(rule)
            )
            for views in card.views
            for rule in dict.fromkeys(("plain", card.update))
        },
        "real": {folder.name: measure(card, folder, size) for folder in sequences(card.data)},
    }
    with atomic_path(card.output) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def sequences(data: Path) -> list[Path]:
    """Folders with ground truth."""
    return sorted(meta.parent for meta in data.glob("*/meta.json"))


def measure(card: ModelCard, folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Errors on one real sequence."""
    truth = PosedSequence.load(folder)
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "scan"
        options = RunConfig(
            str(folder / "rgb"), output, model=card.model, weights=card.weights, update=card.update
        )
        scan = run(options, silent=True)
        return evaluate_scan(scan, truth, fitted(mean_depth(size), scan.transform.target_size))


def fitted(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The baseline's depth map stretched to (width, height)."""
    return cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)


def show(results: dict[str, Any]) -> None:
    """Print the tables of the card."""
    console = Console(width=140)
    worlds = Table("held-back worlds", "", *next(iter(results["worlds"].values())))
    for name, errors in results["worlds"].items():
        worlds.add_row(name, "", *(f"{value:.3f}" for value in errors.values()))
    console.print(worlds)
    real = Table("sequence", "ATE", "still", "RPE turn", "still", "AbsRel", "mean depth", "δ1.25")
    for name, errors in results["real"].items():
        ours, still = errors["trajectory"], errors["baseline"]["trajectory"]
        depth, flat = errors["depth"], errors["baseline"]["depth"]
        cells = [ours["ate_rmse"], still["ate_rmse"], ours["rpe_rotation"], still["rpe_rotation"]]
        cells += [depth["abs_rel"], flat["abs_rel"], depth["delta_125"]] if depth else []
        real.add_row(name, *(f"{cell:.3f}" for cell in cells))
    console.print(real)


if __name__ == "__main__":
    main(tyro.cli(ModelCard))
