"""The velocity network as a GPU likes it: one attention call a layer for sequences of any lengths,
fused elementwise work, and the launches of each size of call recorded once as a CUDA graph.

The numbers are `FlowModel`'s, which is the definition.
"""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from operator import is_
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from melodyflow.model.transformer import Attention, FlowModel, Layer, Row, Text

log = logging.getLogger(__name__)

GRAPHS = 64


def can_fuse(flow: FlowModel) -> bool:
    """Whether a GPU's attention kernels take this network: half precision, and heads of 8n."""
    half = flow.dtype in (torch.bfloat16, torch.float16)
    return flow.device.type == "cuda" and half and flow.config.head_dim % 8 == 0


@cache
def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works here for this device: it needs Triton (the language) on a GPU,
    and a C compiler."""
    try:
        ten = torch.arange(10.0, device=device)
        compiled = torch.compile(lambda x: (x + 1).sin())
        return bool(torch.allclose(compiled(ten), (ten + 1).sin()))
    except Exception as error:
        log.warning("torch.compile does not work here, so less is fused: %.300r", error)
        return False


@torch.library.custom_op("melodyflow::attend", mutates_args=())
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts_q: Tensor,
    starts_k: Tensor,
    extent: Tensor,
) -> tuple[Tensor, Tensor]:
    """Attention of packed sequences, each within its own keys.

    q, k, v: [tokens, heads, head_dim]; starts: [sequences + 1] int32, where each sequence begins
    and the last ends; extent, on the CPU: at least the longest sequence of q and of k, and the
    length of all of both where they are equally long and fill the tokens, else 0. Returns the
    result, like q, and the log of each softmax's denominator, [heads, tokens] fp32; what lies
    behind the last sequence is arbitrary.
    """
    if q.is_cuda:
        most_q, most_k, frames = extent.tolist()
        if frames and _has_dense_kernel(q.device):
            return _attend_dense(q, k, v, frames)
        from torch.nn.attention.varlen import AuxRequest, varlen_attn

        aux = AuxRequest(lse=True)
        out, lse = varlen_attn(q, k, v, starts_q, starts_k, most_q, most_k, return_aux=aux)
        return out, lse if lse.shape[0] == q.shape[1] else lse.T.contiguous()
    out, lse = torch.zeros_like(q), q.new_zeros((q.shape[1], len(q)), dtype=torch.float32)
    begins, reads = starts_q.tolist(), starts_k.tolist()
    for i in range(len(begins) - 1):
        here, there = slice(begins[i], begins[i + 1]), slice(reads[i], reads[i + 1])
        scores = torch.einsum("qhd,khd->hqk", q[here].float(), k[there].float())
        scores /= math.sqrt(q.shape[-1])
        lse[:, here] = scores.logsumexp(-1)
        out[here] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[there].float()).to(q.dtype)
    return out, lse


@attend.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts_q: Tensor,
    starts_k: Tensor,
    extent: Tensor,
) -> tuple[Tensor, Tensor]:
    # No len(): it would fix the number of tokens.
    return torch.empty_like(q), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@cache
def _has_dense_kernel(device: torch.device) -> bool:
    """Whether cuDNN's kernel, which wants sequences of one length, is the faster one: from Hopper
    on. It takes a plan for each shape, so it is for windows alone."""
    return torch.cuda.get_device_capability(device) >= (9, 0)


def _attend_dense(q: Tensor, k: Tensor, v: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    _, heads, head_dim = q.shape
    q, k, v = (x.reshape(-1, frames, heads, head_dim).transpose(1, 2) for x in (q, k, v))
    out: Tensor
    lse: Tensor
    out, lse = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)[:2]
    packed = out.transpose(1, 2).reshape(-1, heads, head_dim)
    return packed, lse.reshape(-1, heads, frames).transpose(0, 1).reshape(heads, -1)


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions on interleaved pairs of x [tokens, heads, head_dim], contiguous."""
    even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack((even * cosines - odd * sines, even * sines + odd * cosines), dim=-1)
    result: Tensor = turned.flatten(-2).to(x.dtype)
    return result


# A layer's parts take their weights as arguments: compiled once, they serve all layers. `x` and
# `delta`, [tokens, dim], are what has been added up and what a part adds to it: added by the next
# part, which reads them anyway.


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
    """Self-attention: x and what to add. time: [sequences, dim]; owner: [tokens], the sequence of
    each."""
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
    """Cross-attention before its last product, [tokens, dim]. keys and values: [text tokens, heads,
    head_dim]."""
    x = x + delta
    h = F.layer_norm(x, x.shape[-1:], norm, bias) + time[owner]
    q = F.linear(h, into).reshape(x.shape[0], heads, -1)
    heard: Tensor = attend(q, keys, values, starts, text_starts, extent)[0]
    return heard.flatten(1)


def feed_forward(
    x: Tensor, delta: Tensor, norm: Tensor, bias: Tensor, wide: Tensor, narrow: Tensor
) -> tuple[Tensor, Tensor]:
    """The feed-forward part: x and what to add."""
    x = x + delta
    h = F.layer_norm(x, x.shape[-1:], norm, bias)
    return x, F.linear(F.gelu(F.linear(h, wide)), narrow)


def join(x: Tensor, delta: Tensor, skipped: Tensor, weight: Tensor) -> Tensor:
    """x with the skip from the first half."""
    return F.linear(torch.cat((x + delta, skipped), dim=-1), weight)


def padded(tokens: int) -> int:
    """The size that so many tokens are recorded with: at most an eighth more from 512 on, and at
    most a sixteenth from 4096 on, where a call's time goes with its tokens."""
    bits = max(tokens - 1, 1).bit_length()
    step = max(64, 1 << max(0, bits - (4 if bits <= 12 else 5)))
    return -(-tokens // step) * step


def _power(least: int, n: int) -> int:
    """The least power of two that is not below either."""
    return max(least, 1 << (n - 1).bit_length())


@dataclass(frozen=True)
class Size:
    """What a recorded call depends on; all but `frames` rounded up."""

    told: int  # tokens of sequences with a text; they come first
    null: int  # tokens of the others
    sequences: int
    longest: int
    text: int  # text tokens
    longest_text: int
    frames: int  # of each sequence, where they fill the tokens; else 0

    @property
    def tokens(self) -> int:
        return self.told + self.null


@dataclass(frozen=True, eq=False)
class Layout:
    """Where a call's sequences lie among its tokens."""

    size: Size
    begins: tuple[int, ...]
    starts: Tensor  # [sequences + 1] int32: all, for self-attention
    told_starts: Tensor  # [sequences + 1] int32: those with a text
    text_starts: Tensor  # [sequences + 1] int32: their texts
    owner: Tensor  # [tokens] int32
    position: Tensor  # [tokens] int32, within the sequence
    extent: Tensor  # of `attend`
    text_extent: Tensor

    @staticmethod
    def of(
        told: Sequence[int],
        null: Sequence[int],
        texts: Sequence[int],
        window: int,
        device: torch.device,
    ) -> "Layout":
        """`told`, `null`: frames of the sequences with and without a text; `texts`: tokens of each
        told one's; `window`: the length that is worth sizes of its own."""
        frames = [*told, *null]
        equal = window if set(frames) == {window} else 0
        size = Size(
            told=padded(sum(told)) if told and not equal else sum(told),
            null=padded(sum(null)) if null and not equal else sum(null),
            sequences=_power(8, len(frames) + 1),
            longest=_power(128, max(frames)),
            text=_power(64, sum(texts)) if texts else 0,
            longest_text=_power(64, max(texts)) if texts else 0,
            frames=equal,
        )
        owner, position = torch.zeros((2, size.tokens), dtype=torch.int32)
        begins, starts, at = [], [0], 0
        for i, length in enumerate(frames):
            if i == len(told) and at < size.told:
                at = size.told
                starts.append(at)  # what pads the told ones is a sequence of its own
            begins.append(at)
            owner[at : at + length] = i
            position[at : at + length] = torch.arange(length)
            at += length
            starts.append(at)
        told_starts, text_starts = [0], [0]
        for length, tokens in zip(told, texts, strict=True):
            told_starts.append(told_starts[-1] + length)
            text_starts.append(text_starts[-1] + tokens)

        def filled(starts: list[int]) -> Tensor:
            """With empty sequences at the end."""
            empty = [starts[-1]] * (size.sequences + 1 - len(starts))
            return torch.tensor(starts + empty, dtype=torch.int32, device=device)

        return Layout(
            size=size,
            begins=tuple(begins),
            starts=filled(starts),
            told_starts=filled(told_starts),
            text_starts=filled(text_starts),
            owner=owner.to(device),
            position=position.to(device),
            extent=torch.tensor((size.longest, size.longest, size.frames)),
            text_extent=torch.tensor((size.longest, size.longest_text, 0)),
        )


@dataclass(eq=False)
class _Texts:
    """The texts of the last call with so many text tokens, one after the other. All recordings
    with so many read here."""

    keys: Tensor  # [layers, text tokens, heads, head_dim]
    values: Tensor
    held: list[Text]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """All that a call reads."""

    latents: Tensor  # [tokens, latent]
    scales: Tensor  # [sequences]
    time: Tensor  # [sequences, dim]
    layout: Layout
    texts: _Texts


@dataclass
class _Recording:
    """A size's calls: where they read, and where their result lies."""

    inputs: _Inputs
    replay: Callable[[], None]
    velocities: Tensor  # [tokens, latent] fp32
    layout: Layout  # whose values the inputs have
    calls: int = 0


class FusedFlow:
    """Answers rows as `FlowModel` does, for one thread at a time."""

    def __init__(self, flow: FlowModel, window: int, record: "Record | None" = None) -> None:
        """`window`: frames of the most frequent sequence. `record`: see `Record`; none on a CPU."""
        self.flow = flow
        self._window = window
        self._cuda = flow.device.type == "cuda"
        self._record = record or (CudaRecorder(flow.device) if self._cuda else None)
        self._layouts: dict[tuple[tuple[int, ...], ...], Layout] = {}
        self._texts: dict[int, _Texts] = {}
        self._seen: set[Size] = set()
        self._recordings: dict[Size, _Recording] = {}
        self._over_itself: Callable[..., tuple[Tensor, Tensor]] = over_itself
        self._over_texts: Callable[..., Tensor] = over_texts
        self._feed_forward: Callable[..., tuple[Tensor, Tensor]] = feed_forward
        self._join: Callable[..., Tensor] = join
        self._compiled = False

    def compile(self) -> None:
        """Fuses the elementwise work from the next call on, which then takes some seconds."""
        self._over_itself = torch.compile(over_itself)
        self._over_texts = torch.compile(over_texts)
        self._feed_forward = torch.compile(feed_forward)
        self._join = torch.compile(join)
        self._compiled = True

    @torch.inference_mode()
    def prepare(self, tokens: int) -> None:
        """Makes cuDNN's plans for calls of windows up to so many tokens: each takes a twentieth of
        a second, which no edit should wait for."""
        if self._cuda and _has_dense_kernel(self.flow.device):
            config = self.flow.config
            shape = (tokens, 3, config.num_heads, config.head_dim)
            qkv = torch.zeros(shape, dtype=self.flow.dtype, device=self.flow.device)
            for end in range(self._window, tokens + 1, self._window):
                q, k, v = qkv[:end].unbind(1)  # a plan depends on how they lie
                _attend_dense(q.contiguous(), k.contiguous(), v, self._window)

    def __call__(self, rows: Sequence[Row]) -> list[Tensor]:
        """Velocities [latent, frames], fp32, of rows of any lengths, times and texts."""
        order = sorted(range(len(rows)), key=lambda i: rows[i].text is None)
        inputs = self._inputs([rows[i] for i in order])
        packed = self._run(inputs)
        velocities: list[Tensor] = [packed] * len(rows)
        for i, begin in zip(order, inputs.layout.begins, strict=True):
            velocities[i] = packed[begin : begin + rows[i].latents.shape[-1]].T
        return velocities

    def _inputs(self, rows: list[Row]) -> _Inputs:
        """What a call of these rows, told ones first, reads; made without waiting for the GPU."""
        texts = [row.text for row in rows if row.text is not None]
        frames = [row.latents.shape[-1] for row in rows]
        layout = self._layout(
            tuple(frames[: len(texts)]),
            tuple(frames[len(texts) :]),
            tuple(text.keys.shape[-2] for text in texts),
        )
        flow, size = self.flow, layout.size
        latents = torch.zeros((size.tokens, flow.config.latent_dim), device=flow.device)
        for begin, row in zip(layout.begins, rows, strict=True):
            latents[begin : begin + row.latents.shape[-1]].copy_(row.latents.T)
        known = [1 / math.hypot(row.flowstep, 1 - row.flowstep) for row in rows]
        scales = torch.tensor(known + [1.0] * (size.sequences - len(rows)))
        if self._cuda:  # from pageable memory a copy would wait for all that the GPU has to do
            scales = scales.pin_memory().to(flow.device, non_blocking=True)
        times = [row.time for row in rows] + [rows[0].time] * (size.sequences - len(rows))
        return _Inputs(latents, scales, torch.stack(times), layout, self._side_by_side(texts, size))

    def _layout(
        self, told: tuple[int, ...], null: tuple[int, ...], texts: tuple[int, ...]
    ) -> Layout:
        key = (told, null, texts)
        if key not in self._layouts:
            if len(self._layouts) >= 4 * GRAPHS:
                self._layouts.clear()
            self._layouts[key] = Layout.of(told, null, texts, self._window, self.flow.device)
        return self._layouts[key]

    def _side_by_side(self, texts: list[Text], size: Size) -> _Texts:
        if size.text not in self._texts:
            config, flow = self.flow.config, self.flow
            shape = (2, config.num_layers, size.text, config.num_heads, config.head_dim)
            keys, values = torch.zeros(shape, dtype=flow.dtype, device=flow.device)
            self._texts[size.text] = _Texts(keys, values, held=[])
        here = self._texts[size.text]
        if len(here.held) == len(texts) and all(map(is_, here.held, texts)):
            return here
        begin = 0
        for text in texts:
            end = begin + text.keys.shape[-2]
            here.keys[:, begin:end].copy_(text.keys.transpose(1, 2))
            here.values[:, begin:end].copy_(text.values.transpose(1, 2))
            begin = end
        here.held = texts
        return here

    def _run(self, inputs: _Inputs) -> Tensor:
        """The velocities of all tokens [tokens, latent], the caller's to keep. A size's first call
        sets up what it needs, its second is recorded."""
        size = inputs.layout.size
        if self._record is None or size not in self._seen:
            self._seen.add(size)
            return self._evaluate(inputs)
        recording = self._recordings.get(size)
        if recording is None:
            if len(self._recordings) >= GRAPHS:
                least = min(self._recordings, key=lambda size: self._recordings[size].calls)
                del self._recordings[least]
            own = _copied(inputs)
            try:
                replay, velocities = self._record(lambda: self._evaluate(own))
            except NotRecorded as error:
                log.warning("calls of %d tokens are not recorded: %s", size.tokens, error)
                self._record = None
                return self._evaluate(inputs)
            recording = _Recording(own, replay, velocities, inputs.layout)
            self._recordings[size] = recording
        else:
            _refill(recording, inputs)
        recording.calls += 1
        recording.replay()
        return recording.velocities.clone()

    def _evaluate(self, inputs: _Inputs) -> Tensor:
        flow, config, layout = self.flow, self.flow.config, inputs.layout
        size, owner, time, heads = layout.size, layout.owner, inputs.time, config.num_heads
        frequencies = flow.transformer.rope.frequencies.float()
        angles = torch.outer(layout.position.float(), frequencies)[:, None, :]
        cosines, sines = angles.cos(), angles.sin()
        told_owner = owner[: size.told]
        self._any_length(owner, told_owner, cosines, sines)
        latents = (inputs.latents * inputs.scales[owner][:, None]).to(flow.dtype)
        x, delta = F.linear(latents, flow.in_proj.weight), None
        stack: list[Tensor] = []
        layers: list[Layer] = list(flow.transformer.layers)  # type: ignore[arg-type]
        skips = [skip.weight for skip in flow.transformer.skip_projections]
        depth = len(layers)
        for index, layer in enumerate(layers):
            if index > depth / 2 and skips:
                skipped = stack.pop()
                self._any_length(x, delta, skipped)
                x, delta = self._join(x, delta, skipped, skips[index % len(skips)]), None
            self._any_length(x, delta)
            x, delta = self._over_itself(
                x,
                delta,
                time,
                owner,
                cosines,
                sines,
                layout.starts,
                layout.extent,
                heads,
                layer.norm1.weight,
                layer.norm1.bias,
                *_projections(layer.self_attn),
            )
            if size.told:
                into, out = _projections(layer.cross_attention)
                x_told, delta_told = x[: size.told], delta[: size.told]
                self._any_length(x_told, delta_told)
                heard = self._over_texts(
                    x_told,
                    delta_told,
                    time,
                    told_owner,
                    layout.told_starts,
                    layout.text_extent,
                    inputs.texts.keys[index],
                    inputs.texts.values[index],
                    layout.text_starts,
                    heads,
                    layer.norm_cross.weight,
                    layer.norm_cross.bias,
                    into[: config.dim],
                )
                delta_told.addmm_(heard, out.T)
            self._any_length(x, delta)
            x, delta = self._feed_forward(
                x,
                delta,
                layer.norm2.weight,
                layer.norm2.bias,
                layer.linear1.weight,
                layer.linear2.weight,
            )
            if index < depth / 2 - 1:
                x, delta = x + delta, None
                stack.append(x)
        if delta is not None:
            x = x + delta
        out = F.layer_norm(x, x.shape[-1:], flow.out_norm.weight, flow.out_norm.bias)
        return F.linear(out, flow.out_proj.weight).float() * math.sqrt(2)

    def _any_length(self, *tensors: Tensor | None) -> None:
        """So that one compilation serves all sizes."""
        if self._compiled:
            for each in tensors:
                if each is not None:
                    torch._dynamo.maybe_mark_dynamic(each, 0)


class NotRecorded(Exception):
    """Work that cannot be recorded here; the message says why."""


# Records some work without doing it: what does it, again and again, on what its tensors hold then,
# and the tensor that its result lies in. Raises NotRecorded.
Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


class CudaRecorder:
    """Records launches as CUDA graphs, which share their memory: one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # Others may use the GPU meanwhile: what they do on their streams is no part of it.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = work()
                graph.capture_end()
            except Exception as error:
                self._abandon(graph)
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                raise NotRecorded(f"{error!r:.300}") from error
        return graph.replay, result

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """Ends a recording that failed; what it has left in the allocator would keep memory."""
        with suppress(RuntimeError):
            graph.capture_end()
        with suppress(AttributeError, RuntimeError):
            index = self._device.index or 0
            torch._C._cuda_endAllocateToPool(index, self._pool)
        self._pool = torch.cuda.graph_pool_handle()


def _copied(inputs: _Inputs) -> _Inputs:
    """The same in tensors of its own; texts have such anyway."""
    layout = replace(
        inputs.layout,
        **{name: getattr(inputs.layout, name).clone() for name in _LAYOUT},
    )
    own = (inputs.latents.clone(), inputs.scales.clone(), inputs.time.clone())
    return _Inputs(*own, layout, inputs.texts)


def _refill(recording: _Recording, inputs: _Inputs) -> None:
    """Puts a call's inputs where a recording reads them."""
    own = recording.inputs
    pairs = [(getattr(own, name), getattr(inputs, name)) for name in ("latents", "scales", "time")]
    if recording.layout is not inputs.layout:
        for name in _LAYOUT:
            pairs.append((getattr(own.layout, name), getattr(inputs.layout, name)))
        recording.layout = inputs.layout
    for to, values in pairs:
        to.copy_(values)


_LAYOUT = ("starts", "told_starts", "text_starts", "owner", "position")


def _projections(attention: Attention) -> tuple[Tensor, Tensor]:
    return attention.in_proj_weight, attention.out_proj.weight
