"""The riff, to and from the model: what is measured with it is edited by the sequential driver."""

from pathlib import Path

import torch
from torch import Tensor

from melodyflow import audio
from melodyflow.audio import Audio, Limits, Waveform
from melodyflow.model import MelodyFlow

ROOT = Path(__file__).resolve().parents[2]
BARS = 4  # of the riff
PROMPTS = (
    "String quartet, elegant and heartfelt, warm legato bowing.",
    "Church organ, solemn and wide.",
    "Chiptune, 8-bit square waves.",
)


def riff(model: MelodyFlow) -> Audio:
    file = (ROOT / "examples/riff.wav").read_bytes()
    rate = model.codec.config.sample_rate
    return audio.read(file, Limits(), model_rate=rate, max_model_samples=10**9)


def to_model(source: Audio, model: MelodyFlow, *, loop: bool = False) -> Tensor:
    codec = model.codec.config
    hop = codec.hop if loop else None
    wave = audio.to_model(
        source, sample_rate=codec.sample_rate, channels=codec.channels, loop_hop=hop
    )
    return torch.from_numpy(wave)


def from_model(
    decoded: Tensor, source: Audio, model: MelodyFlow, *, loop: bool = False
) -> Waveform:
    return audio.from_model(
        decoded.numpy(),
        model_rate=model.codec.config.sample_rate,
        extent=source.extent,
        sample_rate=source.sample_rate,
        loop=loop,
    )
