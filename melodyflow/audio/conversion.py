"""Converts a clip to the checkpoint's rate and channels, and the codec's output back."""

import numpy as np

from melodyflow.audio.lengths import loop_length, model_length, result_length
from melodyflow.audio.resampling import resample, resample_loop
from melodyflow.audio.waveform import Audio, Extent, Waveform
from melodyflow.errors import AudioError


def to_model(
    audio: Audio, *, sample_rate: int, channels: int, loop_hop: int | None = None
) -> Waveform:
    """The waveform in the checkpoint's format: float32 `[channels, n_model]`, n_model =
    model_length(). Mono is duplicated; for a mono checkpoint, stereo is averaged. At equal rates
    the samples are unchanged and may share the file's memory. With `loop_hop` the clip is a loop
    and gets loop_length() samples."""
    wave = audio.samples
    if wave.shape[0] > 1 and channels == 1:
        wave = np.mean(wave, axis=0, keepdims=True, dtype=np.float32)
    if wave.shape[0] not in (1, channels):
        raise AudioError(f"audio: {wave.shape[0]} channels; 1 to {channels} are allowed")
    own = audio.extent
    if loop_hop is None:
        length = model_length(own.samples, own.sample_rate, sample_rate)
        wave = resample(wave, own.sample_rate, sample_rate, length)
    else:
        length = loop_length(own.samples, own.sample_rate, sample_rate, loop_hop)
        wave = resample_loop(wave, length)
    return wave if wave.shape[0] == channels else np.repeat(wave, channels, axis=0)


def from_model(
    decoded: Waveform, *, model_rate: int, extent: Extent, sample_rate: int, loop: bool = False
) -> Waveform:
    """Converts the codec's untrimmed output `[channels, >= n_model]` at `model_rate` to float32
    `[channels, n_out]` at `sample_rate`: exactly as long as a source of that `extent`, with as many
    channels as the larger of the two. It is resampled before it is cropped, so the resampler sees
    what follows the end. With `loop`, all of `decoded` is one lap. At equal rates the result may
    share its memory. Raises ValueError if `decoded` is too short."""
    length = result_length(extent.samples, extent.sample_rate, sample_rate)
    needed = model_length(extent.samples, extent.sample_rate, model_rate)
    if loop:
        wave = resample_loop(decoded, length)
    elif decoded.shape[1] < needed:
        raise ValueError(f"decoded: {decoded.shape[1]} samples; needs at least {needed}")
    else:
        wave = resample(decoded, model_rate, sample_rate, length)
    if wave.shape[0] == 1 and extent.channels > 1:
        wave = np.repeat(wave, extent.channels, axis=0)
    return wave
