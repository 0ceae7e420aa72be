"""Recorded calls of one size: their inputs and their launches."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from melodyflow.model.fused.layout import Layout
from melodyflow.model.transformer import Text


@dataclass(eq=False)
class Texts:
    """The concatenated texts of the last call with this number of text tokens. All recordings with
    that number read them here."""

    keys: Tensor  # [layers, text tokens, heads, head_dim]
    values: Tensor
    held: list[Text]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything a call reads."""

    latents: Tensor  # [tokens, latent]
    scales: Tensor  # [sequences]
    time: Tensor  # [sequences, dim]
    layout: Layout
    texts: Texts


@dataclass
class Recording:
    """A recorded call: the tensors it reads, and the one it writes."""

    inputs: Inputs
    replay: Callable[[], None]
    velocities: Tensor  # [tokens, latent] fp32
    layout: Layout  # the one whose values are in `inputs`
    calls: int = 0


def copied(inputs: Inputs) -> Inputs:
    """A copy in separate tensors; texts are separate anyway."""
    layout = replace(
        inputs.layout,
        **{name: getattr(inputs.layout, name).clone() for name in _LAYOUT},
    )
    own = (inputs.latents.clone(), inputs.scales.clone(), inputs.time.clone())
    return Inputs(*own, layout, inputs.texts)


def refill(recording: Recording, inputs: Inputs) -> None:
    """Copies a call's inputs to where a recording reads them."""
    own = recording.inputs
    pairs = [(getattr(own, name), getattr(inputs, name)) for name in ("latents", "scales", "time")]
    if recording.layout is not inputs.layout:
        for name in _LAYOUT:
            pairs.append((getattr(own.layout, name), getattr(inputs.layout, name)))
        recording.layout = inputs.layout
    for to, values in pairs:
        to.copy_(values)


_LAYOUT = ("starts", "told_starts", "text_starts", "owner", "position")


class NotRecorded(Exception):
    """This work can't be recorded; the message says why."""


# Records work without running it. Returns a function that runs it, with whatever its tensors hold
# at that time, and the tensor with its result. Raises NotRecorded.
Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


class CudaRecorder:
    """Records launches as CUDA graphs. They share memory, so only one may run at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # Other threads may use the GPU meanwhile; their streams aren't recorded.
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
        """Ends a failed recording, and frees what it left in the allocator."""
        with suppress(RuntimeError):
            graph.capture_end()
        with suppress(AttributeError, RuntimeError):
            index = self._device.index or 0
            torch._C._cuda_endAllocateToPool(index, self._pool)
        self._pool = torch.cuda.graph_pool_handle()
