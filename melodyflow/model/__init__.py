"""The model of one checkpoint: codec, text encoder and velocity network."""

from dataclasses import dataclass

import torch
from torch import Tensor

from melodyflow.model.codec import Codec
from melodyflow.model.text import TextEncoder
from melodyflow.model.transformer import FlowModel, Text


@dataclass(frozen=True, eq=False)
class MelodyFlow:
    """The parts of a loaded checkpoint, on one device."""

    codec: Codec
    text: TextEncoder
    flow: FlowModel

    @property
    def device(self) -> torch.device:
        return self.flow.device

    @property
    def max_frames(self) -> int:
        """Latent frames of the window the network was trained on."""
        return round(self.flow.config.segment_duration * self.codec.config.frame_rate)

    @property
    def max_samples(self) -> int:
        """Samples of that window, at the model's rate."""
        return self.max_frames * self.codec.config.hop

    def read_text(self, prompt: str) -> Text | None:
        """A prompt as cross-attention keys and values; None for "", the null condition."""
        return self.flow.read_text(self.text(prompt)) if prompt else None

    def encode(self, waveform: Tensor, *, ring: bool = False) -> Tensor:
        """The posterior's mean and scale [batch, 2*latent, frames] of a waveform [batch, channels,
        samples], of any length; of a ring, see `Codec.encode`."""
        return self.codec.encode(waveform, piece=self.max_frames, ring=ring)

    def decode(self, latents: Tensor, *, ring: bool = False) -> Tensor:
        """Waveform [batch, channels, frames*hop] of the flow's normalised latents [batch, latent,
        frames], of any length; of a ring, see `Codec.encode`."""
        whole = self.flow.denormalise(latents)
        return self.codec.decode(whole, piece=self.max_frames, ring=ring)
