"""How much a network call computes, and how long its matrix products alone take."""

import math
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from melodyflow.model import MelodyFlow
from melodyflow.model.linear import Linear, linear
from melodyflow.model.transformer import CrossAttention, FlowConfig, Row, SelfAttention
from melodyflow.tools.measures import wait


def call_operations(config: FlowConfig, rows: Sequence[Row]) -> float:
    """Floating-point operations of a network call: its products and its attention."""
    dim, layers = config.dim, config.num_layers
    token = layers * (4 + 2 * config.hidden_scale) * dim**2 + config.skips * 2 * dim**2
    total = 0.0
    for row in rows:
        frames = row.latents.shape[-1]
        total += 2 * frames * (token + 2 * config.latent_dim * dim)
        total += 4 * frames * frames * dim * layers
        if row.text is not None:
            total += 2 * frames * 2 * dim**2 * layers
            total += 4 * frames * row.text.keys.shape[-2] * dim * layers
    return total


def weights(model: MelodyFlow, tokens: int) -> list[tuple[int, Tensor]]:
    """The weights of one network call of `tokens`, half of them with a text, and the rows that
    each is multiplied with."""
    found: list[tuple[int, Tensor]] = []
    for name, part in model.flow.named_modules():
        rows = tokens // 2 if "cross_attention" in name else tokens
        if isinstance(part, SelfAttention):
            found.append((rows, part.in_proj_weight))
        elif isinstance(part, CrossAttention):
            # Only queries: keys and values are computed once per edit.
            found.append((rows, part.weights[0]))
        elif isinstance(part, Linear) and not name.startswith("timestep"):
            found.append((rows, part.weight))
    return found


def product_operations(model: MelodyFlow, tokens: int) -> int:
    """Multiplications and additions of the products of one network call."""
    return sum(2 * rows * math.prod(weight.shape) for rows, weight in weights(model, tokens))


@torch.inference_mode()
def product_seconds(model: MelodyFlow, tokens: int) -> float:
    """The seconds of only the matrix products of one network call, with the network's own weights
    or with plain ones, whichever is faster on this machine."""
    own = weights(model, tokens)
    device = model.device
    shared = {
        weight.shape: torch.randn(weight.shape).to(weight.dtype).to(device) for _, weight in own
    }
    plain = [(rows, shared[weight.shape]) for rows, weight in own]
    inputs = {
        (rows, weight.shape[1]): torch.randn(rows, weight.shape[1]).to(weight.dtype).to(device)
        for rows, weight in own
    }
    times: tuple[list[float], list[float]] = [], []
    for _ in range(3):
        for kind, of_kind in zip((own, plain), times, strict=True):
            wait(device)
            started = time.perf_counter()
            for rows, weight in kind:
                linear(inputs[rows, weight.shape[1]], weight)
            wait(device)
            of_kind.append(time.perf_counter() - started)
    return min(statistics.median(of_kind) for of_kind in times)
