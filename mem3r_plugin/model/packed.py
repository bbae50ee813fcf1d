"""Linear layers whose weights lie as oneDNN multiplies them, for bfloat16 on a CPU.

An ordinary layer brings its weights into that order at every call, writes its bias out to the size of the
result and leaves the activation to another pass over it. This is the operation that `torch.compile` would put
in its place, without the minute of compiling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_OPERATION = ("_linear_pointwise", "_reorder_linear_weight")


def can_pack() -> bool:
    """Whether this torch has oneDNN with the operations needed."""
    has = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return has and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATION)


class PackedLinear(nn.Module):
    """What `linear` computes, followed by an exact GELU if wanted; for inference only.

    Args:
        linear: With weights in bfloat16.
        gelu: Whether its GELU is done with it.
    """

    def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        self.register_buffer("bias", linear.bias.detach(), persistent=False)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._activation = ("gelu", "none") if gelu else ("none", "")

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., in) to (..., out) in bfloat16."""
        name, variant = self._activation
        low = tokens.to(torch.bfloat16).contiguous()
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(
            low, self._weight, self.bias, name, [], variant
        )
        return packed
