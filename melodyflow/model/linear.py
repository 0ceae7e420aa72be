"""Linear layers whose weights can be packed: laid out once, after loading, as oneDNN's kernels on a
CPU read them.

A plain product on a CPU is MKL's or OpenBLAS's. MKL uses half of what CPUs other than Intel's can
do, and both lay out the weights anew in every call.
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
    """A module with weights of its own that can be packed."""

    def pack(self) -> None:
        """Replaces those weights by packed ones, which need as much memory."""


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
    """A weight [outputs, inputs], packed; only where `can_pack` says so."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return nn.Parameter(laid_out, requires_grad=False)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether packed weights of a type give the right numbers here. The names behind them are
    internal ones of PyTorch, which its compiler uses for the same purpose."""
    x, weight = torch.eye(3, 64, dtype=dtype), torch.eye(64, dtype=dtype)
    try:
        return torch.equal(linear(x, packed(weight)), x)
    except (AttributeError, RuntimeError):
        return False
