"""Loudness and true peak (ITU-R BS.1770-4, EBU R 128).

Filters are applied as products of spectra, a piece at a time: so that neither SciPy is needed nor
memory that grows with the clip.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from melodyflow.audio.waveform import Waveform, peak
from melodyflow.contract import QUIETEST

LOWEST = QUIETEST  # LUFS: the absolute gate, under which nothing counts
RELATIVE_GATE = -10.0  # LU
MAX_TRUE_PEAK = -1.0  # dBTP, EBU R 128's
OVERSAMPLING = 4
STEP = 0.1  # seconds
STEPS_A_BLOCK = 4  # blocks of 0.4 s overlap by three quarters
PIECE = 8.0  # seconds that are oversampled at a time
# Short transforms stay in the processor's cache: a third of the time that pieces of 8 s take.
WEIGHTED_PIECE = 1.0  # seconds that are filtered at a time
MEMORY = 0.1  # seconds after which the filters have forgotten a sample, to beyond float32


@dataclass(frozen=True)
class LoudnessMatch:
    """A wish for loudness and what came of it; LUFS of what is edited, None: silent or under
    0.4 s."""

    asked: str  # "source" or a number
    source_lufs: float | None
    result_lufs: float | None  # with the gain
    gain_db: float
    limited_by: Literal["peak"] | None  # the peak would have passed -1 dBTP


def match(
    asked: str,
    result: Waveform,
    sample_rate: int,
    source_lufs: float | None,
    part: tuple[int, int] | None = None,
) -> LoudnessMatch:
    """The gain that gives a result `[channels, samples]`, or its samples first <= i < last alone,
    the loudness that was asked for, or less where its true peak would pass -1 dBTP. 0 where there
    is no loudness to go by."""
    first, last = part or (0, result.shape[1])
    power = _blocks(result[:, first:last], sample_rate)
    own = _gated(power)
    target = source_lufs if asked == "source" else float(asked)
    if own is None or target is None:
        return LoudnessMatch(asked, source_lufs, own, 0.0, None)
    wanted = target - own
    most = MAX_TRUE_PEAK - 20 * math.log10(true_peak(result, sample_rate, (first, last)))
    gain = min(wanted, most)
    # Measured anew: of something very soft, other blocks pass the gate of -70 LUFS then.
    reached = _gated(power * 10 ** (gain / 10))
    return LoudnessMatch(asked, source_lufs, reached, gain, "peak" if gain < wanted else None)


def integrated(waveform: Waveform, sample_rate: int, repeats: int = 1) -> float | None:
    """Integrated loudness in LUFS of `[channels, samples]`, each channel heard `repeats` times;
    None where no block of 0.4 s is above -70 LUFS."""
    return _gated(repeats * _blocks(waveform, sample_rate))


def _blocks(waveform: Waveform, sample_rate: int) -> NDArray[np.float64]:
    """The K-weighted power of each block of 0.4 s; none where it is shorter."""
    step = round(STEP * sample_rate)
    energy = np.zeros(waveform.shape[1] // step)  # of the K-weighted samples, a step
    if len(energy) < STEPS_A_BLOCK:
        return np.zeros(0)
    for first, weighted in _k_weighted(waveform, sample_rate, step):
        squares = np.square(weighted).sum(axis=0)
        whole = len(squares) // step
        steps = squares[: whole * step].reshape(whole, step).sum(axis=1)
        energy[first // step : first // step + whole] = steps
    return np.convolve(energy, np.ones(STEPS_A_BLOCK), "valid") / (STEPS_A_BLOCK * step)


def _gated(power: NDArray[np.float64]) -> float | None:
    """The loudness of blocks, by the standard's two gates; None where none passes the first."""
    power = power[power > 10 ** ((LOWEST + 0.691) / 10)]
    if not len(power):
        return None
    power = power[power > power.mean() * 10 ** (RELATIVE_GATE / 10)]
    return float(10 * np.log10(power.mean()) - 0.691)


def true_peak(waveform: Waveform, sample_rate: int, part: tuple[int, int] | None = None) -> float:
    """The largest absolute value of `[channels, samples]`, or of its samples first <= i < last,
    between the samples too: oversampled by 4."""
    first, last = part or (0, waveform.shape[1])
    largest = peak(waveform[:, first:last])
    piece, margin = round(PIECE * sample_rate), round(STEP * sample_rate)
    for start in range(first, last, piece):
        end, begin = min(start + piece, last), max(0, start - margin)
        around = np.ascontiguousarray(waveform[:, begin : end + margin].T)
        finer = soxr.resample(around, sample_rate, OVERSAMPLING * sample_rate, quality="HQ")
        # Where the margin was cut off it rings: that is no part of the sound.
        own = slice(OVERSAMPLING * (start - begin), OVERSAMPLING * (end - begin))
        largest = max(largest, peak(finer[own]))
    return largest


def _k_weighted(
    waveform: Waveform, rate: int, step: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The K-weighted samples in pieces of whole steps, with the place at which each begins."""
    memory, piece = round(MEMORY * rate), round(WEIGHTED_PIECE * rate) // step * step
    size = 2 ** math.ceil(math.log2(memory + piece + memory))
    response = _k_weighting(np.fft.rfftfreq(size), rate)
    for first in range(0, waveform.shape[1], piece):
        begin = max(0, first - memory)
        part = waveform[:, begin : first + piece]
        # The end of the filters' answer wraps around into the zeros behind the part.
        filtered = np.fft.irfft(np.fft.rfft(part, size) * response, size)
        yield first, filtered[:, first - begin : part.shape[1]]


def _k_weighting(frequencies: NDArray[np.float64], rate: int) -> NDArray[np.complex128]:
    """The response at `frequencies` (of the rate) of BS.1770's two filters: a high shelf for the
    head and a high-pass (RLB). Their analogue prototypes, which give the standard's coefficients
    at 48 kHz, made digital for any rate by the bilinear transform."""
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
