"""Linear layers whose weights can be packed: laid out once, after loading, for oneDNN's CPU
kernels.

A plain product on a CPU uses MKL or OpenBLAS. MKL reaches only half the speed on CPUs other than
Intel's, and both lay out the weights again in every call.
"""

from functools import cache
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "gelu", "relu"]


class Linear(nn.Linear):
    """A linear layer; `activation` is applied to its result."""

    def forward(self, x: Tensor, activation: Activation = "none") -> Tensor:
        return linear(x, self.weight, self.bias, activation)

    def pack(self) -> None:
        self.weight = packed(self.weight)


@runtime_checkable
class Packable(Protocol):
    """A module whose weights can be packed."""

    def pack(self) -> None:
        """Replaces the weights by packed ones, which need as much memory."""


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none"
) -> Tensor:
    """x [..., inputs] times a weight [outputs, inputs], plain or packed."""
    product: Tensor
    if weight.is_mkldnn:
        product = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
        return product
    product = F.linear(x, weight, bias)
    if activation == "gelu":
        return F.gelu(product)
    return F.relu(product) if activation == "relu" else product


def packed(weight: Tensor) -> nn.Parameter:
    """Packs a weight [outputs, inputs]. Call it only if `can_pack` returns true."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return nn.Parameter(laid_out, requires_grad=False)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether packed weights of a type give correct results here. They use internal functions of
    PyTorch, which its compiler uses for the same purpose."""
    x, weight = torch.eye(3, 64, dtype=dtype), torch.eye(64, dtype=dtype)
    try:
        return torch.equal(linear(x, packed(weight)), x)
    except (AttributeError, RuntimeError):
        return False
