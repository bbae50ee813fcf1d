"""The reference's function vectors; their folder is `MEM3R_GOLDEN`, by default ../shared/golden."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

_FOLDER = Path(os.environ.get("MEM3R_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))


def golden_functions() -> dict[str, NDArray[Any]]:
    """All tensors by name; skips the test where the file is not there."""
    tensors: dict[str, NDArray[np.generic]] = load_file(_existing("golden_functions.safetensors"))
    return tensors


def golden_function_cases() -> dict[str, Any]:
    """The JSON beside them."""
    record: dict[str, Any] = json.loads(_existing("golden_functions.json").read_text())
    return record


def _existing(name: str) -> Path:
    file = _FOLDER / name
    if not file.is_file():
        pytest.skip(f"the golden vectors are not here: {file} does not exist")
    return file
