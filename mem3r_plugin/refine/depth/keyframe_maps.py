"""Depth maps of keyframes on disk, so that neither a kill nor a long scan costs them."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mem3r_plugin.errors import ScanError
from mem3r_plugin.files import write_atomically

_KEPT = 24
"""Maps kept in memory: a keyframe, its neighbours, and those of the next few."""


class KeyframeMaps:
    """Maps (H, W) by keyframe, a file each; those used last are kept in memory as well.

    Args:
        folder: Where they lie; what is there already counts.
        device: Where maps that are read go.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._device = folder, device
        self._recent: OrderedDict[int, Tensor] = OrderedDict()

    def __contains__(self, index: int) -> bool:
        """Whether a keyframe has a map."""
        return index in self._recent or self._file(index).exists()

    def __getitem__(self, index: int) -> Tensor:
        """The map of a keyframe, float32, exactly as it was stored.

        Raises:
            ScanError: its file is missing or damaged.
        """
        if index not in self._recent:
            file = self._file(index)
            try:
                values = np.load(file, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise ScanError(
                    f"{file} is damaged ({error}); remove it and run the same command again"
                ) from error
            self._keep(index, torch.from_numpy(values).to(self._device))
        self._recent.move_to_end(index)
        return self._recent[index]

    def __setitem__(self, index: int, values: Tensor) -> None:
        """Store a map, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        content = io.BytesIO()
        np.save(content, values.to("cpu", torch.float32).numpy())
        write_atomically(self._file(index), content.getvalue())
        self._keep(index, values)

    def _keep(self, index: int, values: Tensor) -> None:
        self._recent[index] = values
        if len(self._recent) > _KEPT:
            self._recent.popitem(last=False)

    def _file(self, index: int) -> Path:
        return self._folder / f"{index:06d}.npy"
