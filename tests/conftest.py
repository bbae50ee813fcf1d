"""Fixtures of the whole suite."""

import os

# Before NumPy and torch are imported: one thread per process, since pytest-xdist takes the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

# A slow machine is no failure, and CI must not depend on luck.
hypothesis.settings.register_profile("mem3r", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("mem3r")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sequences beside the checkout; read only, not part of the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real sequences are not here: {folder} does not exist")
    return folder
