"""The fused form of the velocity network."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import cache
from operator import is_

import torch
import torch.nn.functional as F
from torch import Tensor

from melodyflow.model.fused.attention import attend_dense, has_dense_kernel
from melodyflow.model.fused.layers import feed_forward, join, over_itself, over_texts
from melodyflow.model.fused.layout import Layout, Size
from melodyflow.model.fused.recording import (
    CudaRecorder,
    Inputs,
    NotRecorded,
    Record,
    Recording,
    Texts,
    copied,
    refill,
)
from melodyflow.model.transformer import Attention, FlowModel, Layer, Row, Text

log = logging.getLogger(__name__)

GRAPHS = 64


def can_fuse(flow: FlowModel) -> bool:
    """Whether a GPU's attention kernels support this network: half precision, and a head size
    divisible by 8."""
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
        log.warning("torch.compile doesn't work here, so less is fused: %.300r", error)
        return False


class FusedFlow:
    """Answers rows as `FlowModel` does, for one thread at a time."""

    def __init__(self, flow: FlowModel, window: int, record: "Record | None" = None) -> None:
        """`window`: frames of the most frequent sequence. `record`: see `Record`; None on a CPU."""
        self.flow = flow
        self._window = window
        self._cuda = flow.device.type == "cuda"
        self._record = record or (CudaRecorder(flow.device) if self._cuda else None)
        self._layouts: dict[tuple[tuple[int, ...], ...], Layout] = {}
        self._texts: dict[int, Texts] = {}
        self._seen: set[Size] = set()
        self._recordings: dict[Size, Recording] = {}
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
        """Makes cuDNN's plans for calls of windows up to `max_tokens`. Each takes a twentieth of a
        second, which no edit should have to wait for."""
        if self._cuda and has_dense_kernel(self.flow.device):
            config = self.flow.config
            shape = (tokens, 3, config.num_heads, config.head_dim)
            qkv = torch.zeros(shape, dtype=self.flow.dtype, device=self.flow.device)
            for end in range(self._window, tokens + 1, self._window):
                q, k, v = qkv[:end].unbind(1)  # a plan depends on how they lie
                attend_dense(q.contiguous(), k.contiguous(), v, self._window)

    def __call__(self, rows: Sequence[Row]) -> list[Tensor]:
        """Velocities [latent, frames], fp32, of rows of any lengths, times and texts."""
        order = sorted(range(len(rows)), key=lambda i: rows[i].text is None)
        inputs = self._inputs([rows[i] for i in order])
        packed = self._run(inputs)
        velocities: list[Tensor] = [packed] * len(rows)
        for i, begin in zip(order, inputs.layout.begins, strict=True):
            velocities[i] = packed[begin : begin + rows[i].latents.shape[-1]].T
        return velocities

    def _inputs(self, rows: list[Row]) -> Inputs:
        """The inputs of a call with these rows (those with a text first), made without waiting for
        the GPU."""
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
        if self._cuda:  # a copy from pageable memory would wait for everything queued on the GPU
            scales = scales.pin_memory().to(flow.device, non_blocking=True)
        times = [row.time for row in rows] + [rows[0].time] * (size.sequences - len(rows))
        return Inputs(latents, scales, torch.stack(times), layout, self._side_by_side(texts, size))

    def _layout(
        self, told: tuple[int, ...], null: tuple[int, ...], texts: tuple[int, ...]
    ) -> Layout:
        key = (told, null, texts)
        if key not in self._layouts:
            if len(self._layouts) >= 4 * GRAPHS:
                self._layouts.clear()
            self._layouts[key] = Layout.of(told, null, texts, self._window, self.flow.device)
        return self._layouts[key]

    def _side_by_side(self, texts: list[Text], size: Size) -> Texts:
        if size.text not in self._texts:
            config, flow = self.flow.config, self.flow
            shape = (2, config.num_layers, size.text, config.num_heads, config.head_dim)
            keys, values = torch.zeros(shape, dtype=flow.dtype, device=flow.device)
            self._texts[size.text] = Texts(keys, values, held=[])
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

    def _run(self, inputs: Inputs) -> Tensor:
        """The velocities of all tokens [tokens, latent]; the caller may keep them. The first call
        of a size sets up what it needs, the second is recorded."""
        size = inputs.layout.size
        if self._record is None or size not in self._seen:
            self._seen.add(size)
            return self._evaluate(inputs)
        recording = self._recordings.get(size)
        if recording is None:
            if len(self._recordings) >= GRAPHS:
                least = min(self._recordings, key=lambda size: self._recordings[size].calls)
                del self._recordings[least]
            own = copied(inputs)
            try:
                replay, velocities = self._record(lambda: self._evaluate(own))
            except NotRecorded as error:
                log.warning("calls of %d tokens can't be recorded: %s", size.tokens, error)
                self._record = None
                return self._evaluate(inputs)
            recording = Recording(own, replay, velocities, inputs.layout)
            self._recordings[size] = recording
        else:
            refill(recording, inputs)
        recording.calls += 1
        recording.replay()
        return recording.velocities.clone()

    def _evaluate(self, inputs: Inputs) -> Tensor:
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
        """Marks the tensors' length as dynamic, so that one compilation serves all sizes."""
        if self._compiled:
            for each in tensors:
                if each is not None:
                    torch._dynamo.maybe_mark_dynamic(each, 0)


def _projections(attention: Attention) -> tuple[Tensor, Tensor]:
    return attention.in_proj_weight, attention.out_proj.weight
