"""How alike two clips sound: their notes, their rhythm and their tempo, as figures.

Needs NumPy only. Waveforms are mono, `[samples]` at RATE, 1 sample or more. Level doesn't matter.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

RATE = 16000  # Hz
CHROMA_HOP = 1000  # samples: 16 frames a second
ONSET_HOP = 256  # samples: 62.5 frames a second
SLOWEST, FASTEST = 40.0, 240.0  # BPM
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_FLOOR = 1e-4  # of mel magnitudes, where full scale is 1: -80 dB
_LEVEL = 0.1  # RMS that clips are brought to, so that the floor lies equally deep in each
_FRAMES = RATE / ONSET_HOP  # onset frames a second
_LONGEST_LAG = 8.0  # seconds: a few bars
_LONGEST = 1875  # onset frames, 30 s: enough for a ratio to 0.03 %
_EARLY_OR_LATE = 16  # onset frames, 0.25 s
_NO_BEAT = 0.1
_NO_MATCH = 0.3  # 10 s of white noise and of music: up to 0.27; the demo's edits: nearly all above

# Krumhansl and Kessler's key profiles ("Tracing the dynamic changes in perceived tonal organization
# in a spatial representation of musical keys", Psychological Review 89, 1982), from the tonic up.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

Array: TypeAlias = npt.NDArray[np.floating[Any]]


@cache
def mel_bank(size: int, bands: int) -> Array:
    """Triangular filters `[bands, size/2 + 1]` on the mel scale, from 30 Hz to half of RATE.

    Each sums to 1, so that a band's value doesn't depend on its width.
    """
    lowest, highest = 2595 * np.log10(1 + np.array([30, RATE / 2]) / 700)
    corners = 700 * (10 ** (np.linspace(lowest, highest, bands + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, size // 2 + 1)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    bank = np.minimum(rising, falling).clip(min=0)
    empty = bank.sum(1) == 0  # narrower than a bin: such a band takes the nearest one
    bank[empty, np.round(corners[1:-1][empty] / (RATE / 2) * (size // 2)).astype(int)] = 1
    return np.asarray(bank / bank.sum(1, keepdims=True), np.float32)


@cache
def _chroma_bank(size: int) -> Array:
    """`[12, size/2 + 1]`: adds each bin from 60 to 2000 Hz to its pitch class, C first."""
    bins = np.linspace(0, RATE / 2, size // 2 + 1)
    pitch = 69 + 12 * np.log2(bins.clip(min=1) / 440)
    semitones = (pitch - np.arange(12)[:, None] + 6) % 12 - 6
    audible = (bins >= 60) & (bins <= 2000)
    return np.asarray(np.exp(-0.5 * (semitones / 0.35) ** 2) * audible, np.float32)


def magnitudes(x: Array, size: int, hop: int) -> Array:
    """|STFT| `[size/2 + 1, frames]`, frames centred on multiples of the hop; a sine of amplitude 1
    reaches 1."""
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(x, size // 2, "reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    spectra: Array = np.abs(np.fft.rfft(frames * window)).astype(np.float32)
    return spectra.T * (4 / size)


def log_mel(x: Array, size: int = 1024, hop: int = 256, bands: int = 64) -> Array:
    """Decibels `[bands, frames]`, not below -80. Level does matter here."""
    mel = mel_bank(size, bands) @ magnitudes(x, size, hop)
    decibels: Array = 20 * np.log10(mel.clip(min=_FLOOR))
    return decibels


def levelled(x: Array) -> Array:
    """The clip at an RMS of 0.1; silence stays silent."""
    return x * (_LEVEL / max(math.sqrt(float(np.mean(np.square(x)))), 1e-4))


def chroma(x: Array) -> Array:
    """Strengths of the 12 pitch classes `[12, frames]`, C first, each frame of length 1 (silence:
    0)."""
    energy = _chroma_bank(4096) @ magnitudes(levelled(x), 4096, CHROMA_HOP)
    length = np.sqrt(np.square(energy).sum(0))
    strengths: Array = energy / length.clip(min=1e-3)
    return strengths


def onsets(x: Array) -> Array:
    """How much the log-mel spectrum rises from one frame to the next `[frames - 1]`, in dB: the
    mean over its bands and over three frames."""
    rises = np.diff(log_mel(levelled(x), 512, ONSET_HOP, 40)).clip(min=0).mean(0)
    rises = np.pad(rises, 1)
    smoothed: Array = (rises[:-2] + rises[1:-1] + rises[2:]) / 3
    return smoothed


def correlation(a: Array, b: Array) -> float:
    """Pearson's, over the frames that both have; 0 where one of them doesn't vary."""
    frames = min(a.shape[-1], b.shape[-1])
    if frames == 0:
        return 0.0
    a, b = (x[..., :frames] - x[..., :frames].mean() for x in (a, b))
    scale = math.sqrt(float(np.sum(a**2)) * float(np.sum(b**2)))
    return float(np.sum(a * b)) / scale if scale > 0 else 0.0


def _self_similarity(onsets: Array) -> Array:
    """Autocorrelation of onsets `[lags]`, 1 at lag 0: up to 8 s or half of the clip."""
    if len(onsets) == 0:
        return np.zeros(1)
    onsets = onsets - onsets.mean()
    power = float(np.dot(onsets, onsets)) / len(onsets)
    longest = int(min(len(onsets) / 2, _LONGEST_LAG * _FRAMES))
    spectrum = np.fft.rfft(onsets, 2 * len(onsets))
    products = np.fft.irfft(np.abs(spectrum) ** 2, 2 * len(onsets))[: longest + 1]
    return products / ((len(onsets) - np.arange(longest + 1)) * (power or 1.0))


def tempo(onsets: Array) -> float | None:
    """The period at whose multiples onsets are most like themselves, 40-240 BPM; None without a
    steady beat.

    The multiples tell the beat from a lag that fits only once (three eighths) and make it precise:
    over 8 s a beat is known to a small part of a frame. A weight for tempos near 120, one octave
    wide, tells half from double (log-normal, as in librosa's beat tracker).
    """
    similarity = _self_similarity(onsets)
    lags = np.arange(len(similarity))
    tempos = np.geomspace(SLOWEST, FASTEST, 4000)  # 0.045 % apart
    fits = np.zeros(len(tempos))
    for i, period in enumerate(60 / tempos * _FRAMES):
        multiples = np.arange(period, lags[-1], period)
        fits[i] = np.interp(multiples, lags, similarity).mean() if len(multiples) else 0.0
    best = int(np.argmax(fits * np.exp(-0.5 * np.log2(tempos / 120) ** 2)))
    return float(tempos[best]) if fits[best] >= _NO_BEAT else None


def tempo_ratio(a: Array, b: Array) -> float | None:
    """How much faster b is than a, 0.5 to 2, by their onsets of up to 30 s: the stretch of b that
    fits a best. b may start up to 0.25 s early or late. A weight one octave wide prefers ratios
    near 1, since half, double and 3/2 often fit too.

    None where b fits at no stretch, and for clips below 1 s.
    """
    a, b = a[:_LONGEST], b[: 2 * _LONGEST]
    if min(len(a), len(b)) < _FRAMES:
        return None
    steps = math.ceil(2 * math.log(2) * len(a))  # half a frame apart at a's end
    ratios = 2 ** (np.arange(-steps, steps + 1) / steps)
    matches = []
    for ratio in ratios:
        at = np.arange(min(len(a), int((len(b) - 1) * ratio) + 1)) / ratio
        matches.append(_match(a, np.interp(at, np.arange(len(b)), b)))
    best = int(np.argmax(matches * np.exp(-0.5 * np.log2(ratios) ** 2)))
    return float(ratios[best]) if matches[best] >= _NO_MATCH else None


def _match(a: Array, b: Array) -> float:
    """The correlation of b with a's start, at the best of the shifts within the tolerance."""
    a, b = a[: len(b)] - a[: len(b)].mean(), b - b.mean()
    scale = math.sqrt(float(np.sum(a**2)) * float(np.sum(b**2)))
    products = np.correlate(np.pad(a, _EARLY_OR_LATE), b, "valid")
    return float(products.max()) / scale if scale > 0 else 0.0


def key(chroma: Array) -> str:
    """The key whose profile correlates best with how much of each note there is: "A minor"."""
    total = chroma.mean(axis=1)
    keys = {
        f"{NOTES[tonic]} {mode}": np.corrcoef(total, np.roll(profile, tonic))[0, 1]
        for mode, profile in (("major", _MAJOR), ("minor", _MINOR))
        for tonic in range(12)
    }
    return max(keys, key=keys.__getitem__)
