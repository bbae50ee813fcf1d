"""What tests of the front end and of `run` share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.stream.front_end import FrontEnd
from mem3r_plugin.stream.run import RunConfig
from tests.stream.pictures import picture


@dataclass(frozen=True)
class SmallModel:
    """Where a small network lies."""

    preset: str
    weights: str

    def front_end(self, **options: Any) -> FrontEnd:
        options = {"precision": "float32", **options}
        return FrontEnd.from_pretrained(self.preset, weights=self.weights, device="cpu", **options)

    def config(self, source: Path | str, output: Path, **options: Any) -> RunConfig:
        options = {"precision": "float32", **options}
        return RunConfig(
            str(source), output, model=self.preset, weights=self.weights, device="cpu", **options
        )


def pictures(count: int, width: int = 64, height: int = 48) -> Iterator[NDArray[np.uint8]]:
    for seed in range(count):
        yield picture(width, height, seed)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content; folders end in a slash."""
    return {
        f"{path.relative_to(folder)}{'/' * path.is_dir()}": b""
        if path.is_dir()
        else path.read_bytes()
        for path in folder.rglob("*")
    }
