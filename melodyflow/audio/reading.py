"""Decodes a file within the limits, whatever its bytes are."""

from collections.abc import Callable

import numpy as np

from melodyflow.audio.containers import read_header
from melodyflow.audio.containers.header import Header
from melodyflow.audio.lengths import longest
from melodyflow.audio.limits import Limits
from melodyflow.audio.waveform import Audio, peak
from melodyflow.errors import AudioError

MAX_PEAK = 1e6  # 120 dB above full scale: not music, and float32 would overflow later on


def read(
    data: bytes,
    limits: Limits,
    *,
    model_rate: int,
    max_model_samples: int,
    check: Callable[[], None] = lambda: None,
) -> Audio:
    """Decodes a WAV (PCM 16/24/32, float 32/64) or FLAC (8, 16, 24 bit) file, recognised by its
    content.

    The header is checked against the limits first, then the samples, because headers lie. Memory
    stays within what `max_model_samples` (at `model_rate`, Hz) allows. `check` is called before
    each block and may raise to stop decoding. For invalid files it raises AudioError and nothing
    else.
    """
    header = check_header(data, limits, model_rate=model_rate, max_model_samples=max_model_samples)
    rate = header.sample_rate
    most = longest(rate, model_rate, max_model_samples)
    samples, subtype = header.decode(data, most, check)
    limits.check_length(samples.shape[1], rate, most)
    if not peak(samples) <= MAX_PEAK:  # false for NaN as well
        where = tuple(int(i) for i in np.argwhere(~(np.abs(samples) <= MAX_PEAK))[0])
        raise AudioError(
            f"audio: sample {where[1]} of channel {where[0]} is {samples[where]}; "
            f"finite values from {-MAX_PEAK:.0f} to {MAX_PEAK:.0f} are allowed (full scale is 1)"
        )
    return Audio(samples, rate, subtype)


def check_header(data: bytes, limits: Limits, *, model_rate: int, max_model_samples: int) -> Header:
    """Reads the header of a WAV or FLAC file and checks it against the limits: the cheap half of
    read(). Raises AudioError."""
    limits.check_bytes(len(data))
    header = read_header(data)
    limits.check_channels(header.channels)
    limits.check_sample_rate(header.sample_rate)
    if header.samples is not None:
        most = longest(header.sample_rate, model_rate, max_model_samples)
        limits.check_length(header.samples, header.sample_rate, most)
    return header
