"""Loudness and true peak (ITU-R BS.1770-4, EBU R 128).

Filters are applied as products of spectra, one piece at a time. This needs no SciPy, and memory
doesn't grow with the clip. The spectra are PyTorch's: NumPy's hold Python's lock, and the rest of
the process would wait for each of them. Written by hand: pyloudnorm, which the tests compare it
with, has no true peak and holds the whole clip several times.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from melodyflow.audio.waveform import Waveform, peak
from melodyflow.contract import QUIETEST

LOWEST = QUIETEST  # LUFS: the absolute gate; quieter blocks don't count
RELATIVE_GATE = -10.0  # LU
MAX_TRUE_PEAK = -1.0  # dBTP, from EBU R 128
OVERSAMPLING = 4
STEP = 0.1  # seconds
STEPS_A_BLOCK = 4  # blocks of 0.4 s overlap by three quarters
PIECE = 8.0  # seconds oversampled at a time
# Short transforms fit in the processor's cache: three times as fast as pieces of 8 s.
WEIGHTED_PIECE = 1.0  # seconds filtered at a time
MEMORY = 0.1  # seconds until the filters' response to a sample is below float32's precision


@dataclass(frozen=True)
class LoudnessMatch:
    """A requested loudness and the result. LUFS are of the edited part; None if it is silent or
    shorter than 0.4 s."""

    asked: str  # "source" or a number
    source_lufs: float | None
    result_lufs: float | None  # after the gain
    gain_db: float
    limited_by: Literal["peak"] | None  # more gain would have pushed the peak above -1 dBTP


def match(
    asked: str,
    result: Waveform,
    sample_rate: int,
    source_lufs: float | None,
    part: tuple[int, int] | None = None,
    check: Callable[[], None] = lambda: None,
) -> LoudnessMatch:
    """The gain that brings a result `[channels, samples]`, or its samples first <= i < last, to
    the requested loudness; less if its true peak would exceed -1 dBTP. 0 if either loudness can't
    be measured. `check` is called between pieces and may raise to stop."""
    first, last = part or (0, result.shape[1])
    power = _blocks(result[:, first:last], sample_rate, check)
    own = _gated(power)
    target = source_lufs if asked == "source" else float(asked)
    if own is None or target is None:
        return LoudnessMatch(asked, source_lufs, own, 0.0, None)
    wanted = target - own
    most = MAX_TRUE_PEAK - 20 * math.log10(true_peak(result, sample_rate, (first, last), check))
    gain = min(wanted, most)
    # Measured again: in very quiet audio, other blocks pass the -70 LUFS gate after the gain.
    reached = _gated(power * 10 ** (gain / 10))
    return LoudnessMatch(asked, source_lufs, reached, gain, "peak" if gain < wanted else None)


def integrated(
    waveform: Waveform,
    sample_rate: int,
    repeats: int = 1,
    check: Callable[[], None] = lambda: None,
) -> float | None:
    """Integrated loudness in LUFS of `[channels, samples]`, each channel counted `repeats` times;
    None if no block of 0.4 s is above -70 LUFS. `check` is called between pieces and may raise to
    stop."""
    return _gated(repeats * _blocks(waveform, sample_rate, check))


def _blocks(waveform: Waveform, sample_rate: int, check: Callable[[], None]) -> NDArray[np.float64]:
    """The K-weighted power of each block of 0.4 s; empty for a shorter waveform."""
    step = round(STEP * sample_rate)
    energy = np.zeros(waveform.shape[1] // step)  # of the K-weighted samples in each step
    if len(energy) < STEPS_A_BLOCK:
        return np.zeros(0)
    for first, weighted in _k_weighted(waveform, sample_rate, step):
        check()
        whole = weighted.shape[1] // step
        steps = weighted[:, : whole * step].reshape(len(weighted), whole, step)
        energy[first // step : first // step + whole] = np.einsum(
            "cws,cws->w", steps, steps, dtype=np.float64
        )
    return np.convolve(energy, np.ones(STEPS_A_BLOCK), "valid") / (STEPS_A_BLOCK * step)


def _gated(power: NDArray[np.float64]) -> float | None:
    """The loudness of the blocks that pass the standard's two gates; None if none passes the
    first."""
    power = power[power > 10 ** ((LOWEST + 0.691) / 10)]
    if not len(power):
        return None
    power = power[power > power.mean() * 10 ** (RELATIVE_GATE / 10)]
    return float(10 * np.log10(power.mean()) - 0.691)


def true_peak(
    waveform: Waveform,
    sample_rate: int,
    part: tuple[int, int] | None = None,
    check: Callable[[], None] = lambda: None,
) -> float:
    """The true peak of `[channels, samples]`, or of its samples first <= i < last: the largest
    absolute value after oversampling by 4. `check` is called between pieces and may raise to
    stop."""
    first, last = part or (0, waveform.shape[1])
    largest = peak(waveform[:, first:last])
    piece, margin = round(PIECE * sample_rate), round(STEP * sample_rate)
    for start in range(first, last, piece):
        check()
        end, begin = min(start + piece, last), max(0, start - margin)
        around = np.ascontiguousarray(waveform[:, begin : end + margin].T)
        finer = soxr.resample(around, sample_rate, OVERSAMPLING * sample_rate, quality="HQ")
        # The resampler rings where the margin was cut off; that part is dropped.
        own = slice(OVERSAMPLING * (start - begin), OVERSAMPLING * (end - begin))
        largest = max(largest, peak(finer[own]))
    return largest


def _k_weighted(waveform: Waveform, rate: int, step: int) -> Iterator[tuple[int, Waveform]]:
    """The K-weighted samples in pieces of whole steps, each with its start."""
    memory, piece = round(MEMORY * rate), round(WEIGHTED_PIECE * rate) // step * step
    size = 2 ** math.ceil(math.log2(memory + piece + memory))
    response = torch.from_numpy(_k_weighting(np.fft.rfftfreq(size), rate).astype(np.complex64))
    for first in range(0, waveform.shape[1], piece):
        begin = max(0, first - memory)
        part = torch.tensor(waveform[:, begin : first + piece])
        # The tail of the filters' response wraps around into the zeros after the part.
        filtered = torch.fft.irfft(torch.fft.rfft(part, size).mul_(response), size)
        yield first, filtered[:, first - begin : part.shape[1]].numpy()


def _k_weighting(frequencies: NDArray[np.float64], rate: int) -> NDArray[np.complex128]:
    """The response of BS.1770's two filters, a high shelf (the head) and a high-pass (RLB), at
    `frequencies` given as fractions of the rate. The bilinear transform of their analogue
    prototypes; at 48 kHz it gives the standard's coefficients."""
    z = np.exp(-2j * np.pi * frequencies)
    k = math.tan(math.pi * 1681.974450955533 / rate)
    high, q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    middle = high**0.4996667741545416
    shelf = (high + middle * k / q + k * k) + 2 * (k * k - high) * z
    shelf = (shelf + (high - middle * k / q + k * k) * z**2) / _poles(k, q, z)
    k = math.tan(math.pi * 38.13547087602444 / rate)
    q = 0.5003270373238773
    passed = (1 - 2 * z + z**2) * (1 + k / q + k * k) / _poles(k, q, z)
    return np.asarray(shelf * passed)


def _poles(k: float, q: float, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return (1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2
