"""The parts of a layer for packed sequences, each compiled once for all layers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from melodyflow.model.fused.attention import attend


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Applies rotary positions to interleaved pairs of a contiguous x [tokens, heads, head_dim]."""
    even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack((even * cosines - odd * sines, even * sines + odd * cosines), dim=-1)
    result: Tensor = turned.flatten(-2).to(x.dtype)
    return result


# A layer's parts take their weights as arguments, so that one compilation serves all layers. `x`
# and `delta`, [tokens, dim], are the residual stream and what a part adds to it; the next part adds
# them, because it reads both anyway.


def over_itself(
    x: Tensor,
    delta: Tensor | None,
    time: Tensor,
    owner: Tensor,
    cosines: Tensor,
    sines: Tensor,
    starts: Tensor,
    extent: Tensor,
    heads: int,
    norm: Tensor,
    bias: Tensor,
    into: Tensor,
    out: Tensor,
) -> tuple[Tensor, Tensor]:
    """Self-attention. Returns x and delta. time: [sequences, dim]; owner: [tokens], each token's
    sequence."""
    if delta is not None:
        x = x + delta
    h = F.layer_norm(x, x.shape[-1:], norm, bias) + time[owner]
    qkv = F.linear(h, into)
    q, k, v = qkv.reshape(x.shape[0], 3, heads, -1).unbind(1)
    q, k = _turn(q, cosines, sines), _turn(k, cosines, sines)
    heard, lse = attend(q, k, v, starts, starts, extent)
    # The zero key (add_zero_attn) adds exp(0) to the denominator and nothing to the numerator.
    heard = heard * torch.sigmoid(lse).T[..., None].to(heard.dtype)
    return x, F.linear(heard.flatten(1), out)


def over_texts(
    x: Tensor,
    delta: Tensor,
    time: Tensor,
    owner: Tensor,
    starts: Tensor,
    extent: Tensor,
    keys: Tensor,
    values: Tensor,
    text_starts: Tensor,
    heads: int,
    norm: Tensor,
    bias: Tensor,
    into: Tensor,
) -> Tensor:
    """Cross-attention up to its output projection, [tokens, dim]. keys, values: [text tokens,
    heads, head_dim]."""
    x = x + delta
    h = F.layer_norm(x, x.shape[-1:], norm, bias) + time[owner]
    q = F.linear(h, into).reshape(x.shape[0], heads, -1)
    heard: Tensor = attend(q, keys, values, starts, text_starts, extent)[0]
    return heard.flatten(1)


def feed_forward(
    x: Tensor, delta: Tensor, norm: Tensor, bias: Tensor, wide: Tensor, narrow: Tensor
) -> tuple[Tensor, Tensor]:
    """The feed-forward part. Returns x and delta."""
    x = x + delta
    h = F.layer_norm(x, x.shape[-1:], norm, bias)
    return x, F.linear(F.gelu(F.linear(h, wide)), narrow)


def join(x: Tensor, delta: Tensor, skipped: Tensor, weight: Tensor) -> Tensor:
    """Joins x with the skip from the first half."""
    return F.linear(torch.cat((x + delta, skipped), dim=-1), weight)
