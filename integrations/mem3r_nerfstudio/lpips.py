"""Nerfstudio's perceptual metric where its network cannot be fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn
from torchmetrics.image import lpip

_METRIC = "LearnedPerceptualImagePatchSimilarity"


class UnavailableMetric(nn.Module):
    """Stands in for a metric that cannot be computed: its value is NaN."""

    def forward(self, *_pictures: Tensor) -> Tensor:
        """NaN, whatever is compared."""
        return torch.tensor(torch.nan)


@contextmanager
def lpips_where_available() -> Iterator[None]:
    """Let models that are built inside do without LPIPS where AlexNet's weights cannot be had.

    Nerfstudio builds the metric into every model, and it downloads those weights. On a machine without a
    way to them training would not even start, for the sake of one number of the evaluation.
    """
    original = getattr(lpip, _METRIC)

    def build(*arguments: Any, **options: Any) -> nn.Module:
        try:
            metric: nn.Module = original(*arguments, **options)
        except OSError as error:
            CONSOLE.print(
                f"[yellow]LPIPS is left out and will read NaN: AlexNet cannot be fetched ({error})"
            )
            return UnavailableMetric()
        return metric

    setattr(lpip, _METRIC, build)
    try:
        yield
    finally:
        setattr(lpip, _METRIC, original)
