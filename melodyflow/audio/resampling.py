"""A waveform at another rate: a clip with silence around it, or a loop with itself around it."""

import numpy as np
import soxr

from melodyflow.audio.waveform import Waveform

LOOP_CONTEXT = 8192  # samples around a lap that the resampler hears at least: more than its filters
LOOP_PIECE = 2**20  # samples of a lap that are resampled at a time
ROUNDING = 2  # samples a resampled length may differ from the exact one


def resample(wave: Waveform, rate: int, new_rate: int, samples: int) -> Waveform:
    """soxr's best quality: linear phase, no delay. So many samples of it: cropped, or padded with
    zeros by no more than the resampler's rounding. At equal rates it shares its memory."""
    if rate == new_rate:
        return wave[:, :samples]
    resampled = np.zeros((wave.shape[0], samples), np.float32)
    for channel, made in zip(wave, resampled, strict=True):  # one at a time takes less memory
        new = soxr.resample(np.ascontiguousarray(channel), rate, new_rate, quality="VHQ")[:samples]
        if samples - len(new) > ROUNDING:
            raise ValueError(f"waveform: {len(new)} samples where {samples} are needed")
        made[: len(new)] = new
    return resampled


def resample_loop(wave: Waveform, samples: int) -> Waveform:
    """One lap of a loop in so many samples. The resampler hears whole laps before and after it, as
    who listens to the loop does, and what it makes of these is thrown away; in pieces, so that they
    take no memory."""
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
