"""Resampling: a clip with silence around it, or a loop with itself around it."""

import numpy as np
import soxr

from melodyflow.audio.waveform import Waveform

LOOP_CONTEXT = 8192  # samples fed to the resampler around a lap, at least: longer than its filters
LOOP_PIECE = 2**20  # samples of a lap resampled at a time
ROUNDING = 2  # samples by which a resampled length may differ from the exact one


def resample(wave: Waveform, rate: int, new_rate: int, samples: int) -> Waveform:
    """Resamples with soxr's best quality (linear phase, no delay) to exactly `samples`: cropped, or
    padded with zeros by no more than the resampler's rounding. At equal rates the result shares
    memory with `wave`."""
    if rate == new_rate:
        return wave[:, :samples]
    resampled = np.zeros((wave.shape[0], samples), np.float32)
    for channel, made in zip(wave, resampled, strict=True):  # one at a time takes less memory
        new = soxr.resample(np.ascontiguousarray(channel), rate, new_rate, quality="VHQ")[:samples]
        if samples - len(new) > ROUNDING:
            raise ValueError(f"waveform: got {len(new)} samples, expected {samples}")
        made[: len(new)] = new
    return resampled


def resample_loop(wave: Waveform, samples: int) -> Waveform:
    """Resamples one lap of a loop to exactly `samples`. The resampler is fed whole laps before and
    after it, as a listener hears the loop, and their output is dropped; in pieces, so they take no
    memory."""
    own = wave.shape[1]
    if own == samples:
        return wave
    around = -(-LOOP_CONTEXT // own)  # laps
    firsts = [*range(0, own, LOOP_PIECE)] * (around + 1 + around)
    resampled = np.empty((wave.shape[0], samples), np.float32)
    for channel, made in zip(wave, resampled, strict=True):
        stream = soxr.ResampleStream(own, samples, 1, dtype="float32", quality="VHQ")
        at = -around * samples
        for number, first in enumerate(firsts, 1):
            piece = np.ascontiguousarray(channel[first : first + LOOP_PIECE])
            new = stream.resample_chunk(piece, last=number == len(firsts))
            begin, end = max(at, 0), min(at + len(new), samples)
            if begin < end:
                made[begin:end] = new[begin - at : end - at]
            at += len(new)
            if at >= samples:
                break
    return resampled
