"""One vector that says what a picture looks like, from the tokens the network makes of it anyway."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize


def image_feature(tokens: Tensor) -> NDArray[np.float32]:
    """`channel_spread` of a picture, brought to NumPy; tokens (N, C), feature (C,)."""
    return np.asarray(channel_spread(tokens).cpu().numpy())


def channel_spread(tokens: Tensor) -> Tensor:
    """How much every channel varies over the picture, of unit length.

    With the bundled weights the spread tells places apart better than pooling by the mean or the
    generalised mean does. `mem3r_plugin.refine.keyframes.retrieval` compares features.

    Args:
        tokens: The encoder's, shape (…, N, C).

    Returns:
        Shape (…, C).
    """
    return normalize(tokens.float().std(dim=-2, correction=0), dim=-1)
