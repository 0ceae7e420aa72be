"""The velocity network, a diffusion transformer over latent frames (docs/model.md, "The velocity
network").

Sequences of any length and time share one call: their tokens are packed end to end, and only
attention treats the sequences separately, so no work is wasted on padding.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melodyflow.manifest import FlowConfig as FlowConfig
from melodyflow.model.linear import Linear, linear, packed


@dataclass(frozen=True, eq=False)
class Text:
    """A prompt's cross-attention keys and values [layers, heads, 1 + tokens, head_dim]; the first
    row is zero (add_zero_attn)."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class Row:
    """One sequence of a network call."""

    latents: Tensor  # [latent, frames]
    flowstep: float  # 0 is noise, 1 is music
    time: Tensor  # [dim], `FlowModel.embed_times` of the flowstep
    text: Text | None  # None: the null condition, whose cross-attention is exactly 0


@dataclass(frozen=True, eq=False)
class _Layout:
    """The positions of the sequences in a packed call; equal sequences are adjacent."""

    rotations: Tensor  # [tokens, 1, 1, head_dim / 2], complex
    lengths: list[tuple[int, int]]  # (sequences, frames) of neighbours that are equally long
    texts: list[tuple[int, int, Text]]  # the same for neighbours that also share a text
    conditioned: int  # tokens of rows with a text; those rows come first


# Returns the velocities [latent, frames], fp32, of rows of any lengths, times and texts.
Network = Callable[[Sequence[Row]], list[Tensor]]


def _add_zero(x: Tensor) -> Tensor:
    """Prepends a zero row to keys or values [..., tokens, head_dim] (add_zero_attn)."""
    return F.pad(x, (0, 0, 1, 0))


def _rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Applies rotary positions to interleaved pairs, always in fp32. x: [tokens, ..., head_dim]; an
    fp32 x is rotated in place."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs.mul_(rotations)).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with fused, bias-free projections; the rows of `in_proj_weight` are
    queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.out_proj = Linear(dim, dim, bias=False)

    def _split(self, x: Tensor, sequences: int) -> Tensor:
        """[sequences*tokens, heads, head_dim] -> [sequences, heads, tokens, head_dim]."""
        return x.view(sequences, -1, *x.shape[1:]).transpose(1, 2)

    def _project(self, parts: list[Tensor]) -> Tensor:
        """The attended sequences [sequences, heads, tokens, head_dim], packed and projected."""
        packed = [part.transpose(1, 2).flatten(2).flatten(0, 1) for part in parts]
        return cast(Tensor, self.out_proj(torch.cat(packed) if len(packed) > 1 else packed[0]))


class SelfAttention(Attention):
    """Self-attention of packed tokens, each within its own sequence."""

    def pack(self) -> None:
        self.in_proj_weight = packed(self.in_proj_weight)

    def forward(self, x: Tensor, layout: _Layout) -> Tensor:
        """x: [tokens, dim]."""
        qkv = linear(x, self.in_proj_weight).view(len(x), 3, self.heads, -1)
        q, k = _rotate(qkv[:, :2], layout.rotations).unbind(1)
        v = qkv[:, 2]
        parts = []
        start = 0
        for sequences, frames in layout.lengths:
            here = slice(start, start + sequences * frames)
            start = here.stop
            queries, keys, values = (self._split(y[here], sequences) for y in (q, k, v))
            parts.append(
                F.scaled_dot_product_attention(queries, _add_zero(keys), _add_zero(values))
            )
        return self._project(parts)


class CrossAttention(Attention):
    """Cross-attention of packed tokens, each with its own sequence's text."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self._packed: tuple[Tensor, Tensor] | None = None

    def pack(self) -> None:
        self._packed = packed(self.weights[0]), packed(self.weights[1])
        del self.in_proj_weight

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """The weights of the queries, and those of the keys and values."""
        dim = self.out_proj.in_features
        return self._packed or (self.in_proj_weight[:dim], self.in_proj_weight[dim:])

    def forward(self, x: Tensor, layout: _Layout, layer: int) -> Tensor:
        """x: the conditioned tokens [tokens, dim]."""
        q = linear(x, self.weights[0]).view(len(x), self.heads, -1)
        parts = []
        start = 0
        for sequences, frames, text in layout.texts:
            here = slice(start, start + sequences * frames)
            start = here.stop
            keys = text.keys[layer].expand(sequences, -1, -1, -1)
            values = text.values[layer].expand(sequences, -1, -1, -1)
            parts.append(
                F.scaled_dot_product_attention(self._split(q[here], sequences), keys, values)
            )
        return self._project(parts)

    def read(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [heads, 1 + tokens, head_dim] of a text [tokens, dim]."""
        both = linear(text, self.weights[1]).view(len(text), 2, self.heads, -1)
        keys, values = both.permute(1, 2, 0, 3).unbind(0)
        return _add_zero(keys), _add_zero(values)


class Layer(nn.Module):
    """A pre-norm layer: self-attention, cross-attention, feed-forward. The time is added to the
    inputs of both attentions."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.hidden_scale * config.dim
        self.self_attn = SelfAttention(dim, config.num_heads)
        self.cross_attention = CrossAttention(dim, config.num_heads)
        self.linear1 = Linear(dim, hidden, bias=False)
        self.linear2 = Linear(hidden, dim, bias=False)
        self.norm1 = nn.LayerNorm(dim)
        self.norm_cross = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, time: Tensor, layout: _Layout, index: int) -> Tensor:
        # In-place sums only modify tensors that nothing else refers to.
        x = self.self_attn(self.norm1(x).add_(time), layout).add_(x)
        if layout.conditioned:
            told, null = x[: layout.conditioned], x[layout.conditioned :]
            heard = self.norm_cross(told).add_(time[: layout.conditioned])
            told = self.cross_attention(heard, layout, index).add_(told)
            x = torch.cat((told, null)) if len(null) else told
        return cast(Tensor, self.linear2(self.linear1(self.norm2(x), "gelu")).add_(x))


class Rope(nn.Module):
    """Rotary frequencies from the checkpoint: the released ones are rounded to bfloat16, so
    recomputing them would differ."""

    frequencies: Tensor

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.empty(pairs))


class Transformer(nn.Module):
    """The layers, with skips from the first half to the second, last in first out."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.skip_projections = nn.ModuleList(
            Linear(2 * config.dim, config.dim, bias=False) for _ in range(config.skips)
        )
        self.rope = Rope(config.head_dim // 2)

    def forward(self, x: Tensor, time: Tensor, layout: _Layout) -> Tensor:
        depth, skips = len(self.layers), len(self.skip_projections)
        stack: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            if index > depth / 2 and skips:
                # The order of the projections looks odd, but the released weights were trained
                # this way.
                x = self.skip_projections[index % skips](torch.cat((x, stack.pop()), dim=-1))
            x = layer(x, time, layout, index)
            if index < depth / 2 - 1:
                stack.append(x)
        return x


class TimeEmbedding(nn.Module):
    """Sines and cosines of the flowstep (not scaled by 1000) through a small network."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(
            Linear(features, dim, bias=False), nn.SiLU(), Linear(dim, dim, bias=False)
        )

    def forward(self, times: Tensor) -> Tensor:
        half = self.features // 2
        steps = torch.arange(half, dtype=torch.float32, device=times.device)
        angles = times[:, None] * torch.exp(-math.log(10000) * steps / half)
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return cast(Tensor, self.mlp(waves.to(next(self.parameters()).dtype)))


class FlowModel(nn.Module):
    """The velocity of packed rows, and what an edit prepares once: text and time embeddings."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("latent_mean", torch.empty(1, config.latent_dim, 1))
        self.register_buffer("latent_std", torch.empty(1, config.latent_dim, 1))
        self.timestep_embedder = TimeEmbedding(config.time_features, config.dim)
        self.in_proj = Linear(config.latent_dim, config.dim, bias=False)
        self.transformer = Transformer(config)
        self.out_norm = nn.LayerNorm(config.dim)
        self.out_proj = Linear(config.dim, config.latent_dim, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.in_proj.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.in_proj.weight.device

    def normalise(self, latents: Tensor) -> Tensor:
        """Converts the codec's latents [batch, latent, frames] to the flow's units."""
        return (latents - self.latent_mean) / (self.latent_std + 1e-5)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Converts the flow's latents [batch, latent, frames] to the codec's units."""
        return latents * (self.latent_std + 1e-5) + self.latent_mean

    def embed_times(self, flowsteps: Sequence[float]) -> dict[float, Tensor]:
        """Time embeddings [dim] of a grid's flowsteps."""
        unique = list(dict.fromkeys(flowsteps))
        times = torch.tensor(unique, dtype=torch.float32, device=self.device)
        return dict(zip(unique, self.timestep_embedder(times), strict=True))

    def read_text(self, text: Tensor) -> Text:
        """A projected prompt [tokens, dim] as every layer's cross-attention keys and values."""
        text = text.to(self.device, self.dtype)
        pairs = [layer.cross_attention.read(text) for layer in self._layers()]
        return Text(*(torch.stack(part) for part in zip(*pairs, strict=True)))

    def forward(self, rows: Sequence[Row]) -> list[Tensor]:
        """The velocities [latent, frames], fp32, of rows of any lengths, times and texts, in the
        same order."""
        # Rows with a text first, so that the null rows skip the cross-attention as one slice. Rows
        # of equal length and text become adjacent and share an attention call.
        order = sorted(
            range(len(rows)),
            key=lambda i: (rows[i].text is None, rows[i].latents.shape[-1], id(rows[i].text)),
        )
        ordered = [rows[i] for i in order]
        frames = [row.latents.shape[-1] for row in ordered]
        x = torch.cat(
            [
                (row.latents / math.hypot(row.flowstep, 1 - row.flowstep)).T.to(self.dtype)
                for row in ordered
            ]
        )
        time = torch.cat(
            [row.time.expand(length, -1) for row, length in zip(ordered, frames, strict=True)]
        )
        layout = self._layout(ordered, frames)
        x = self.transformer(self.in_proj(x), time, layout)
        packed = self.out_proj(self.out_norm(x)).float() * math.sqrt(2)
        velocities: list[Tensor] = [packed] * len(rows)
        for i, velocity in zip(order, packed.split(frames), strict=True):
            velocities[i] = velocity.T
        return velocities

    def _layers(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], iter(self.transformer.layers))

    def _layout(self, rows: list[Row], frames: list[int]) -> _Layout:
        positions = torch.arange(max(frames), dtype=torch.float32, device=self.device)
        angles = torch.outer(positions, self.transformer.rope.frequencies.float())
        table = torch.cat([angles[:length] for length in frames])[:, None, None, :]
        texts = [
            (len(list(same)), length, text)
            for (length, _, text), same in groupby(
                (row.latents.shape[-1], id(row.text), row.text) for row in rows if row.text
            )
            if text is not None
        ]
        return _Layout(
            rotations=torch.polar(torch.ones_like(table), table),
            lengths=[(len(list(same)), length) for length, same in groupby(frames)],
            texts=texts,
            conditioned=sum(sequences * length for sequences, length, _ in texts),
        )
