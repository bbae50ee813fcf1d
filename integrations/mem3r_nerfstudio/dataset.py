"""Pictures with depth, and how far each depth is to be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from nerfstudio.data.datasets.depth_dataset import DepthDataset

from mem3r_plugin.errors import ScanError

CONFIDENCE_FILES = "confidence_filenames"
"""Key of a dataparser's metadata: 8-bit pictures with round(255 * (1 - 1 / confidence))."""


class ConfidentDepthDataset(DepthDataset):
    """Nerfstudio's depth dataset, with a weight (H, W, 1) between 0 and 1 for every depth.

    The weight is 1 - 1 / confidence; 1 for depth from a dataparser that knows no confidence, and 0 where
    there is no depth.
    """

    exclude_batch_keys_from_device = [  # noqa: RUF012 - nerfstudio's own way
        *DepthDataset.exclude_batch_keys_from_device,
        "depth_weight",
    ]

    def get_metadata(self, data: dict[str, Any]) -> dict[str, Any]:
        """Depth in the units of the scene, and its weight."""
        metadata: dict[str, Any] = super().get_metadata(data)
        depth = metadata["depth_image"]
        weight = (depth > 0).float()
        files: list[Path] | None = self.metadata.get(CONFIDENCE_FILES)
        if files is not None:
            weight = weight * _read_weight(files[data["image_idx"]], tuple(depth.shape[:2]))
        return {**metadata, "depth_weight": weight}


def _read_weight(file: Path, size: tuple[int, int]) -> torch.Tensor:
    """The weight (H, W, 1) stored in a file, at a size (H, W)."""
    code = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if code is None:
        raise ScanError(f"{file} cannot be read; export the scan again")
    resized = cv2.resize(code, size[::-1], interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(resized.astype(np.float32) / 255)[..., None]
