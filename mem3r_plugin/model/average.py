"""The mean of two networks' weights: what one has learned beside what the other has not forgotten.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from __future__ import annotations

import torch

from mem3r_plugin.errors import WeightsError
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.shares import check_share


@torch.no_grad()
def average_into(
    network: ReconstructionNetwork, other: ReconstructionNetwork, share: float
) -> None:
    """Make a network's weights the weighted mean of its own and another's.

    Of use only where one was trained from the other, or both from a third.

    Args:
        network: changed in place.
        other: a network of the same parts.
        share: of `other` in the mean, 0 to 1.

    Raises:
        ConfigError: the share is none.
        WeightsError: the networks do not have the same parts.
    """
    check_share("share", share)
    ours, theirs = network.state_dict(), other.state_dict()
    if {name: each.shape for name, each in ours.items()} != {
        name: each.shape for name, each in theirs.items()
    }:
        raise WeightsError("only weights of the same network can be averaged")
    for name, tensor in ours.items():
        if tensor.is_floating_point():
            tensor.lerp_(theirs[name], share)
