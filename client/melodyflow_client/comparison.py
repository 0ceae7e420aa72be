"""What two clips have in common, as figures: tempo, key, chords, rhythm and loudness.

Needs the extra `compare` (soxr, pyloudnorm, matplotlib), which is imported on first use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from . import measures
from .audio import AudioSource, load, waveform
from .errors import AudioError, InvalidRequest
from .measures import Array


@dataclass(frozen=True)
class ClipFacts:
    """What is heard in one clip.

    seconds: its length. sample_rate in Hz. channels: 1 or more.
    loudness: integrated, ITU-R BS.1770-4, in LUFS; None for silence, below 0.4 s (one block of its
        gating) and above 5 channels.
    tempo: 40-240 BPM; None without a steady beat.
    key: the nearest of the 24, as in "A minor"; relative keys (A minor and C major) are easily
        confused. None for silence.
    """

    seconds: float
    sample_rate: int
    channels: int
    loudness: float | None
    tempo: float | None
    key: str | None


@dataclass(frozen=True)
class Comparison:
    """Two clips, and how alike they are from their starts to the shorter one's end.

    The correlations and the tempo error are those that the demo checkpoint's evaluation reports.

    tempo_error: of b against a in percent, -50 to 100: how much faster b is. None where their
        rhythms match at no ratio; then the tempos belong to different music.
    chroma_correlation: -1 to 1, of the strengths of the 12 pitch classes over time: 1 = the same
        notes at the same time, about 0 = other music or noise.
    chroma_by_shift: 12 such correlations, with b moved down by 0 to 11 semitones.
    transposition: how many semitones b lies above a, -5 to 6, at the best of them; 0 = none.
    onset_correlation: -1 to 1, of how strongly notes begin: 1 = the same rhythm at the same time.
    Correlations and transposition are None if either clip is silent.
    """

    a: ClipFacts
    b: ClipFacts
    tempo_error: float | None
    chroma_correlation: float | None
    chroma_by_shift: tuple[float, ...] | None
    transposition: int | None
    onset_correlation: float | None


def compare(a: AudioSource, b: AudioSource) -> Comparison:
    """Compares b with a; takes the same sources as the clients.

    Raises AudioError, and InvalidRequest if the extra `compare` is not installed.
    """
    return compare_heard(Heard(a), Heard(b))


class Heard:
    """A clip and what follows from it, computed on first use."""

    def __init__(self, source: AudioSource) -> None:
        require("soxr", "pyloudnorm")
        self._source = load(source)
        if not self._source.samples:
            raise AudioError("audio: no samples; there is nothing to compare")
        if not np.isfinite(self._waveform).all():
            raise AudioError("audio: NaN or infinite samples; there is nothing to compare")

    @cached_property
    def _waveform(self) -> npt.NDArray[np.float32]:
        """`[channels, samples]` at the clip's own rate."""
        return waveform(self._source.data)[0]

    @property
    def seconds(self) -> float:
        return self._source.samples / self._source.sample_rate

    @cached_property
    def mono(self) -> npt.NDArray[np.float32]:
        """`[samples]` at measures.RATE, 1 sample or more."""
        import soxr

        mixed = self._waveform.mean(axis=0)
        resampled = soxr.resample(mixed, self._source.sample_rate, measures.RATE)
        return np.asarray(resampled if len(resampled) else mixed[:1], np.float32)

    @cached_property
    def chroma(self) -> Array | None:
        """As measures.chroma(); None for silence."""
        return measures.chroma(self.mono) if np.any(self.mono) else None

    @cached_property
    def onsets(self) -> Array:
        """As measures.onsets()."""
        return measures.onsets(self.mono)

    @cached_property
    def loudness(self) -> float | None:
        import pyloudnorm

        if self.seconds < 0.4 or self._source.channels > 5:
            return None
        meter = pyloudnorm.Meter(self._source.sample_rate)
        level = float(meter.integrated_loudness(self._waveform.T.astype(np.float64)))
        return level if math.isfinite(level) else None

    def facts(self, tempo: float | None) -> ClipFacts:
        return ClipFacts(
            seconds=self.seconds,
            sample_rate=self._source.sample_rate,
            channels=self._source.channels,
            loudness=self.loudness,
            tempo=tempo,
            key=None if self.chroma is None else measures.key(self.chroma),
        )


def compare_heard(a: Heard, b: Heard) -> Comparison:
    """compare(), for callers that need the chromagrams too."""
    ratio = measures.tempo_ratio(a.onsets, b.onsets)
    tempo, other = measures.tempo(a.onsets), measures.tempo(b.onsets)
    if ratio is not None and tempo is not None:
        other = tempo * ratio  # half and double would fit as well
    by_shift = None
    if a.chroma is not None and b.chroma is not None:
        by_shift = tuple(
            measures.correlation(a.chroma, np.roll(b.chroma, -shift, axis=0)) for shift in range(12)
        )
    best = None if by_shift is None else int(np.argmax(by_shift))
    return Comparison(
        a=a.facts(tempo),
        b=b.facts(other),
        tempo_error=None if ratio is None else 100 * (ratio - 1),
        chroma_correlation=None if by_shift is None else by_shift[0],
        chroma_by_shift=by_shift,
        transposition=None if best is None else best if best <= 6 else best - 12,
        onset_correlation=None if by_shift is None else measures.correlation(a.onsets, b.onsets),
    )


def require(*modules: str) -> None:
    """InvalidRequest if one of the extra's modules is missing."""
    from importlib.util import find_spec

    for module in modules:
        if find_spec(module) is None:
            raise InvalidRequest(
                f'compare: needs {module}: pip install "melodyflow-client[compare]"'
            )
