"""Linear layers whose weights lie as oneDNN multiplies them on a CPU.

An ordinary layer brings weights in bfloat16 into that order at every call, writes its bias out to the size of
the result and leaves the activation to another pass over it; in float32 it goes to MKL, which on processors
that are not Intel's does without their widest units. This is the operation that `torch.compile` would put in
its place, without the compiling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_OPERATIONS = ("_linear_pointwise", "_reorder_linear_weight")


def can_pack() -> bool:
    """Whether this torch has oneDNN with the operations needed."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS)


class PackedLinear(nn.Module):
    """What `linear` computes, followed by an exact GELU if wanted; for inference only.

    It is saved as the layer it was made from.

    Args:
        linear: With weights in the format to compute in, float32 or bfloat16.
        gelu: Whether its GELU is done with it.
    """

    bias: Tensor

    def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        self.register_buffer("bias", linear.bias.detach(), persistent=False)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._activation = ("gelu", "none") if gelu else ("none", "")

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., in) to (..., out) in the format of the weights."""
        name, variant = self._activation
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(
            tokens.to(self._weight.dtype).contiguous(), self._weight, self.bias, name, [], variant
        )
        return packed

    def _save_to_state_dict(
        self, destination: dict[str, Tensor], prefix: str, keep_vars: bool
    ) -> None:
        del keep_vars
        destination[f"{prefix}weight"] = self._weight.to_dense()
        destination[f"{prefix}bias"] = self.bias
