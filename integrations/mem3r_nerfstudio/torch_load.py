"""Checkpoints of nerfstudio 1.1.5 under torch 2.6 and later.

`torch.load` has since unpickled only what it knows to be harmless. nerfstudio stores NumPy scalars in
its checkpoints, so that `ns-eval`, `ns-render`, `ns-export` and `ns-viewer` would refuse them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def allow_numpy_scalars() -> None:
    """Let `torch.load` read checkpoints that hold NumPy scalars; they can run no code."""
    scalar: Any = np.float64(0).__reduce__()[0]
    torch.serialization.add_safe_globals(
        [
            (scalar, "numpy.core.multiarray.scalar"),  # NumPy 1's name of it
            (scalar, "numpy._core.multiarray.scalar"),
            np.dtype,
            np.dtypes.Float32DType,
            np.dtypes.Float64DType,
        ]
    )
