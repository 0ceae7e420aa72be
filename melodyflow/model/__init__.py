"""The model of one checkpoint: codec, text encoder and velocity network."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from melodyflow.model.codec import Codec
from melodyflow.model.fused import FusedFlow, can_compile, can_fuse
from melodyflow.model.text import TextEncoder
from melodyflow.model.transformer import FlowModel, Network, Text

log = logging.getLogger(__name__)

LEAST_PIECE = 32  # frames per codec call when memory is short


@dataclass(frozen=True, eq=False)
class MelodyFlow:
    """The parts of a loaded checkpoint, on one device."""

    codec: Codec
    text: TextEncoder
    flow: FlowModel

    @property
    def device(self) -> torch.device:
        return self.flow.device

    @cached_property
    def network(self) -> Network:
        """The network for the solvers: the flow, or its fused form on a GPU if it has one."""
        if not can_fuse(self.flow):
            return self.flow
        fused = FusedFlow(self.flow, self.max_frames)
        if can_compile(self.device):
            fused.compile()
        return fused

    @property
    def max_frames(self) -> int:
        """The window the network was trained on, in latent frames."""
        return round(self.flow.config.segment_duration * self.codec.config.frame_rate)

    @property
    def max_samples(self) -> int:
        """That window in samples at the model's rate."""
        return self.max_frames * self.codec.config.hop

    def read_text(self, prompt: str) -> Text | None:
        """A prompt as cross-attention keys and values; None for "", the null condition."""
        return self.flow.read_text(self.text(prompt)) if prompt else None

    def encode(self, waveform: Tensor, *, ring: bool = False) -> Tensor:
        """The posterior's mean and scale [batch, 2*latent, frames] for a waveform [batch, channels,
        samples] of any length. `ring`: see `Codec.encode`."""
        return self._in_pieces(lambda piece: self.codec.encode(waveform, piece=piece, ring=ring))

    def decode(self, latents: Tensor, *, ring: bool = False) -> Tensor:
        """The waveform [batch, channels, frames*hop] for the flow's normalised latents [batch,
        latent, frames] of any length. `ring`: see `Codec.encode`."""
        whole = self.flow.denormalise(latents)
        return self._in_pieces(lambda piece: self.codec.decode(whole, piece=piece, ring=ring))

    def _in_pieces(self, run: Callable[[int], Tensor]) -> Tensor:
        """Runs the codec in pieces of one window, or smaller ones if memory runs out. The result is
        the same."""
        piece = self.max_frames
        while True:
            try:
                return run(piece)
            except (torch.OutOfMemoryError, MemoryError) as error:
                if piece <= LEAST_PIECE:
                    raise
                log.warning("out of memory at %d frames of the codec: %s", piece, error)
            # Outside the handler: the error's traceback holds what the call had allocated.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            piece = max(piece // 2, LEAST_PIECE)
