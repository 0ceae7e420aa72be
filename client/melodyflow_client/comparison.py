"""What two clips have in common, in figures: tempo, key, chords, rhythm, loudness.

Needs the extra `compare` (librosa, pyloudnorm, matplotlib), imported when first used: that takes
seconds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .audio import AudioSource, load, waveform
from .errors import AudioError, InvalidRequest

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

RATE = 22050  # Hz: what is listened to; harmonics of interest lie below 11 kHz
CHROMA_HOP = 512  # samples: 43 frames a second
ONSET_HOP = 256  # samples: 86 frames a second
SLOWEST, FASTEST = 40.0, 240.0  # BPM
_FRAMES = RATE / ONSET_HOP  # of the onsets, a second
_SHORTEST_LAG = 10  # of those frames: onsets nearer to each other are one
_LONGEST_LAG = 8.0  # seconds: some bars
_NO_BEAT = 0.1  # white noise has 0.05, edits of music 0.25 and more
_NO_MATCH = 0.5  # music with noise has 0.3, with edits of itself 0.75 and more

# Krumhansl and Kessler's key profiles ("Tracing the dynamic changes in perceived tonal organization
# in a spatial representation of musical keys", Psychological Review 89, 1982), from the tonic up.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

Array: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ClipFacts:
    """What is heard in one clip.

    seconds: its length. sample_rate in Hz. channels: 1 or more.
    loudness: integrated, ITU-R BS.1770-4, in LUFS; None for silence, under 0.4 s (a block of its
        gating) and for more than 5 channels.
    tempo: 40-240 BPM; None where nothing repeats steadily.
    key: the nearest of the 24, "A minor"; relative keys (A minor and C major) are easily taken for
        each other. None for silence.
    """

    seconds: float
    sample_rate: int
    channels: int
    loudness: float | None
    tempo: float | None
    key: str | None


@dataclass(frozen=True)
class Comparison:
    """Two clips, and how alike they are, moment by moment from their starts to the shorter's end.

    tempo_error: of b against a in percent, -50 to 100: by how much b's rhythm must be stretched to
        fit a's. None where it fits at no ratio; then the tempos are of different music.
    chroma_correlation: -1 to 1, of the strengths of the 12 notes in each frame: 1 = the same notes
        at the same time, about 0 = other music or noise.
    chroma_by_shift: 12 such correlations, with b moved down by 0 to 11 semitones.
    transposition: by how many semitones b lies above a, -5 to 6, for the best of them; 0 = not.
    onset_correlation: -1 to 1, of how strongly notes begin: 1 = the same rhythm at the same time.
    Correlations and transposition are None where one clip is silent.
    """

    a: ClipFacts
    b: ClipFacts
    tempo_error: float | None
    chroma_correlation: float | None
    chroma_by_shift: tuple[float, ...] | None
    transposition: int | None
    onset_correlation: float | None


def compare(a: AudioSource, b: AudioSource) -> Comparison:
    """Compares two clips, a the one to hold b against; takes what the clients take.

    Raises AudioError, and InvalidRequest where the extra `compare` is not installed.
    """
    return compare_heard(Heard(a), Heard(b))


class Heard:
    """A clip and what is computed from it, each thing when it is first asked for."""

    def __init__(self, source: AudioSource) -> None:
        require("librosa", "pyloudnorm")
        self._source = load(source)
        if not self._source.samples or not np.isfinite(self._waveform).all():
            what = "NaN or infinite samples" if self._source.samples else "no samples"
            raise AudioError(f"audio: {what}; there is nothing to compare")

    @cached_property
    def _waveform(self) -> npt.NDArray[np.float32]:
        """`[channels, samples]` at the clip's own rate."""
        return waveform(self._source.data)[0]

    @property
    def seconds(self) -> float:
        return self._source.samples / self._source.sample_rate

    @cached_property
    def mono(self) -> npt.NDArray[np.float32]:
        """`[samples]` at RATE."""
        import librosa

        resampled: npt.NDArray[np.float32] = librosa.resample(
            self._waveform.mean(axis=0), orig_sr=self._source.sample_rate, target_sr=RATE
        )
        return resampled

    @cached_property
    def chroma(self) -> Array | None:
        """`[12, frames]`, C first, the strongest note of a frame at 1; None for silence."""
        import librosa

        if not np.any(self.mono):
            return None
        with _no_warnings():
            chroma: Array = librosa.feature.chroma_cqt(y=self.mono, sr=RATE, hop_length=CHROMA_HOP)
        return chroma

    @cached_property
    def onsets(self) -> Array:
        """`[frames]`: how much louder the spectrum became, in dB on average."""
        import librosa

        with _no_warnings():
            onsets: Array = librosa.onset.onset_strength(y=self.mono, sr=RATE, hop_length=ONSET_HOP)
        return onsets

    @cached_property
    def loudness(self) -> float | None:
        import pyloudnorm

        if self.seconds < 0.4 or self._source.channels > 5:
            return None
        meter = pyloudnorm.Meter(self._source.sample_rate)
        level = float(meter.integrated_loudness(self._waveform.T.astype(np.float64)))
        return level if math.isfinite(level) else None

    @cached_property
    def self_similarity(self) -> Array:
        """`[lags]`, how alike the onsets are to themselves so many frames later; 1 at lag 0."""
        return _self_similarity(self.onsets)

    def facts(self, tempo: float | None) -> ClipFacts:
        return ClipFacts(
            seconds=self.seconds,
            sample_rate=self._source.sample_rate,
            channels=self._source.channels,
            loudness=self.loudness,
            tempo=tempo,
            key=None if self.chroma is None else _key(self.chroma),
        )


def compare_heard(a: Heard, b: Heard) -> Comparison:
    """compare(), for who needs the chromagrams too."""
    ratio = _tempo_ratio(a.self_similarity, b.self_similarity)
    tempo, other = _tempo(a.self_similarity), _tempo(b.self_similarity)
    if ratio is not None and tempo is not None:
        other = tempo * ratio  # half and double would fit as well
    by_shift = None
    if a.chroma is not None and b.chroma is not None:
        by_shift = tuple(
            _correlation(a.chroma, np.roll(b.chroma, -shift, axis=0)) for shift in range(12)
        )
    best = None if by_shift is None else int(np.argmax(by_shift))
    return Comparison(
        a=a.facts(tempo),
        b=b.facts(other),
        tempo_error=None if ratio is None else 100 * (ratio - 1),
        chroma_correlation=None if by_shift is None else by_shift[0],
        chroma_by_shift=by_shift,
        transposition=None if best is None else best if best <= 6 else best - 12,
        onset_correlation=None if by_shift is None else _correlation(a.onsets, b.onsets),
    )


def require(*modules: str) -> None:
    """InvalidRequest where one of the extra's modules is missing."""
    from importlib.util import find_spec

    for module in modules:
        if find_spec(module) is None:
            raise InvalidRequest(
                f'compare: needs {module}: pip install "melodyflow-client[compare]" (0.5 GB)'
            )


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Without librosa's that a short clip is short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _correlation(a: Array, b: Array) -> float:
    """Pearson's, of the frames that both have; 0 where one does not change."""
    frames = min(a.shape[-1], b.shape[-1])
    a, b = (x[..., :frames] - x[..., :frames].mean() for x in (a, b))
    size = math.sqrt(float(np.sum(a**2)) * float(np.sum(b**2)))
    return float(np.sum(a * b)) / size if size > 0 else 0.0


def _self_similarity(onsets: Array) -> Array:
    """Autocorrelation of the onsets, `[lags]`, 1 at lag 0: up to 8 s or half of the clip."""
    onsets = onsets - onsets.mean()
    power = float(np.dot(onsets, onsets)) / len(onsets)
    longest = int(min(len(onsets) / 2, _LONGEST_LAG * _FRAMES))
    spectrum = np.fft.rfft(onsets, 2 * len(onsets))
    products = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 1]
    return products / ((len(onsets) - np.arange(longest + 1)) * (power or 1.0))


def _tempo(similarity: Array) -> float | None:
    """The period at whose multiples the onsets are most like themselves, as BPM.

    The multiples tell the beat from what is like itself at one lag only (three eighths), and make
    it exact: over 8 s a beat is known to a small part of a frame. Half and double are told apart by
    a weight for tempos near 120, one octave wide (log-normal, as librosa's own has it).
    """
    lags = np.arange(len(similarity))
    tempos = np.geomspace(SLOWEST, FASTEST, 4000)  # 0.045 % apart
    fits = np.zeros(len(tempos))
    for i, period in enumerate(60 / tempos * _FRAMES):
        multiples = np.arange(period, lags[-1], period)
        fits[i] = np.interp(multiples, lags, similarity).mean() if len(multiples) else 0.0
    best = int(np.argmax(fits * np.exp(-0.5 * np.log2(tempos / 120) ** 2)))
    return float(tempos[best]) if fits[best] >= _NO_BEAT else None


def _tempo_ratio(a: Array, b: Array) -> float | None:
    """How much faster b is, 0.5 to 2, for the best match of two self-similarities.

    They show all levels of the rhythm, from notes to bars, so that they match at one ratio only:
    two tempos found apart may be of different levels.
    """
    ratios = np.geomspace(0.5, 2, 2801)  # 0.05 % apart; 1 is one of them
    matches = np.zeros(len(ratios))
    for i, ratio in enumerate(ratios):
        lags = np.arange(_SHORTEST_LAG, min(len(a) - 1, (len(b) - 1) * ratio))
        if len(lags):
            stretched = np.interp(lags / ratio, np.arange(len(b)), b)
            matches[i] = _correlation(a[lags.astype(int)], stretched)
    best = int(np.argmax(matches))
    return float(ratios[best]) if matches[best] >= _NO_MATCH else None


def _key(chroma: Array) -> str:
    """The key whose profile correlates best with how much of each note there is."""
    total = chroma.mean(axis=1)
    keys = {
        f"{NOTES[tonic]} {mode}": np.corrcoef(total, np.roll(profile, tonic))[0, 1]
        for mode, profile in (("major", _MAJOR), ("minor", _MINOR))
        for tonic in range(12)
    }
    return max(keys, key=keys.__getitem__)
