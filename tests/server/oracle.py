"""The sequential edit of `melodyflow.edit`, in the tests' own process: what is correct."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from melodyflow import audio, edit
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import load, open_checkpoint

from .raw import Waveform


def edited(checkpoint: Path, file: bytes, **parameters: Any) -> Waveform:
    """The result at the file's own rate, not levelled. R and K are euler's unless given."""
    model = model_of(checkpoint)
    codec = model.codec.config
    source = audio.read(file, audio.Limits(), model_rate=codec.sample_rate, max_model_samples=10**8)
    loop = parameters.get("loop", False)
    waveform = audio.to_model(
        source,
        sample_rate=codec.sample_rate,
        channels=codec.channels,
        loop_hop=codec.hop if loop else None,
    )
    decoded = edit.edit(model, torch.from_numpy(waveform), edit.Parameters(**parameters))
    return audio.from_model(
        decoded.numpy(),
        model_rate=codec.sample_rate,
        extent=source.extent,
        sample_rate=source.sample_rate,
        loop=loop,
    )


def generated(checkpoint: Path, samples: int, **parameters: Any) -> Waveform:
    """Text-to-music of so many samples at the checkpoint's rate, not levelled."""
    model = model_of(checkpoint)
    given = {"flowstep": 0.0, "regularize_iters": 0, "keep_last_k_iters": 0, **parameters}
    return edit.generate(model, samples, edit.Parameters(**given)).numpy()[:, :samples]


@cache
def model_of(checkpoint: Path) -> MelodyFlow:
    return load(open_checkpoint(checkpoint))
