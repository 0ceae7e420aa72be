"""T5's encoder (arXiv 1910.10683), as in t5-base; modules are named after the released tensors.

transformers has this encoder too, but importing it takes as long as the rest of the service's
startup.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class T5Config:
    """An encoder's sizes, named as in its config.json. The defaults are for fields that older files
    omit."""

    vocab_size: int
    d_model: int
    d_kv: int  # of each head
    d_ff: int
    num_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """Reads the content of a config.json. Raises ValueError for unsupported kinds of T5."""
        activation = values.get("feed_forward_proj", "relu")
        if activation != "relu":
            raise ValueError(
                f"config.json: feed_forward_proj is {activation!r}; only 'relu' is supported"
            )
        try:
            return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})
        except TypeError as error:
            raise ValueError(f"config.json: not from a T5 ({error})") from None


class T5Encoder(nn.Module):
    """Token ids [batch, tokens] -> states [batch, tokens, d_model]. There is no mask: all rows must
    have the same length."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = _embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config)

    def forward(self, ids: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(self.shared(ids)))


class Stack(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(config, first=i == 0) for i in range(config.num_layers))
        self.final_layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        # All blocks share the first one's position bias.
        bias = cast(Block, self.block[0]).position_bias(x.shape[1])
        for block in self.block:
            x = block(x, bias)
        return cast(Tensor, self.final_layer_norm(x))


class Block(nn.Module):
    """Pre-norm: self-attention, then feed-forward."""

    def __init__(self, config: T5Config, *, first: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList((AttentionLayer(config, first=first), FeedForwardLayer(config)))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        return cast(Tensor, feed_forward(attention(x, bias)))

    def position_bias(self, tokens: int) -> Tensor:
        """The first block's position bias, see `Attention.position_bias`."""
        return cast(AttentionLayer, self.layer[0]).SelfAttention.position_bias(tokens)


class AttentionLayer(nn.Module):
    def __init__(self, config: T5Config, *, first: bool) -> None:
        super().__init__()
        self.SelfAttention = Attention(config, first=first)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + cast(Tensor, self.SelfAttention(self.layer_norm(x), bias))


class FeedForwardLayer(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = FeedForward(config)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.DenseReluDense(self.layer_norm(x)))


class FeedForward(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.wo(F.relu(self.wi(x))))


class Attention(nn.Module):
    """Multi-head self-attention without the usual scale, which T5's initialisation makes up for."""

    def __init__(self, config: T5Config, *, first: bool) -> None:
        super().__init__()
        width = config.num_heads * config.d_kv
        self.heads = config.num_heads
        self.buckets = config.relative_attention_num_buckets
        self.max_distance = config.relative_attention_max_distance
        self.q = nn.Linear(config.d_model, width, bias=False)
        self.k = nn.Linear(config.d_model, width, bias=False)
        self.v = nn.Linear(config.d_model, width, bias=False)
        self.o = nn.Linear(width, config.d_model, bias=False)
        if first:
            self.relative_attention_bias = _embedding(self.buckets, self.heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q(x), self.k(x), self.v(x))
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return cast(Tensor, self.o(attended.transpose(1, 2).flatten(2)))

    def position_bias(self, tokens: int) -> Tensor:
        """The bias [1, heads, tokens, tokens] added to the attention scores: a learned value for
        each head and bucket of distances."""
        positions = torch.arange(tokens, device=self.relative_attention_bias.weight.device)
        buckets = position_buckets(
            positions[None, :] - positions[:, None], self.buckets, self.max_distance
        )
        values = cast(Tensor, self.relative_attention_bias(buckets))
        return values.permute(2, 0, 1)[None]


def _embedding(count: int, width: int) -> nn.Embedding:
    """An embedding without random initialisation: on the meta device, drawing random values makes
    PyTorch import its compiler, which takes a second."""
    return nn.Embedding(count, width, _weight=torch.empty(count, width))


def position_buckets(distances: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Buckets of distances, key minus query position. The upper half is for keys that come later.
    In each half, the first half has a bucket for each distance; the others cover logarithmically
    wider ranges, and the last one everything from `max_distance` on."""
    half = buckets // 2
    exact = half // 2
    far = distances.abs()
    share = torch.log(far.clamp(min=exact).float() / exact) / math.log(max_distance / exact)
    wide = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(far < exact, far, wide) + half * (distances > 0)
