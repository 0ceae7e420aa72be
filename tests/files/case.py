"""One file, and what reading it must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soxr

from melodyflow_client.audio import Clip, waveform

from .sounds import RATE, Samples, float32

# What tables call containers that go by FFmpeg's name, or by a coding's.
CONTAINERS = {
    "float WAV": "WAV",
    "wav": "WAV",
    "caf": "CAF",
    "flac": "FLAC",
    "wv": "WavPack",
    "mp3": "MP3",
    "MP3 with a LAME tag": "MP3",
    "adts": "AAC (ADTS)",
    "ADTS": "AAC (ADTS)",
    "ac3": "AC-3",
    "eac3": "AC-3",
    "ALAC": "MP4, M4A, MOV",
    "M4A": "MP4, M4A, MOV",
    "M4A, index first": "MP4, M4A, MOV",
    "fragmented MP4": "MP4, M4A, MOV",
    "ipod": "MP4, M4A, MOV",
    "mov": "MP4, M4A, MOV",
    "matroska": "Matroska",
    "mpegts": "MPEG-TS",
    "avi": "AVI",
    "Ogg Vorbis": "Ogg",
    "Ogg Opus": "Ogg",
    "ALAC in CAF": "CAF",
    "ADPCM": "WAV",
}


@dataclass(frozen=True)
class Case:
    """container: its own name, or one of CONTAINERS. told: words that the warnings have; none of
    them: there are no warnings. exact: whether every sample is the expected one, to `error`;
    otherwise the sound begins at the same sample and is as long, to `slack` samples. alike: the
    least correlation with what is expected."""

    name: str
    container: str
    data: bytes = field(repr=False)
    expected: Samples = field(repr=False)  # [frames, channels]
    told: tuple[str, ...] = ()
    rate: int = RATE
    exact: bool = True
    error: float = 1e-6
    slack: int = 0
    alike: float = 0.99

    @property
    def kind(self) -> str:
        """Its container as tables call it."""
        return CONTAINERS.get(self.container, self.container)


Door = Callable[[Case], Clip]  # raises AudioError where the file is refused


@dataclass(frozen=True)
class Seen:
    """A clip beside what was expected."""

    samples: int
    lag: int  # samples by which it comes late
    alike: float  # correlation at that lag
    error: float  # the largest difference of a sample


def faults(case: Case, clip: Clip) -> list[str]:
    """What of a clip isn't as the case has it, in words."""
    return [*unlike(case, clip), *untold(case, clip)]


def unlike(case: Case, clip: Clip) -> list[str]:
    """What of the sound isn't."""
    got = seen(clip, case.expected)
    more = got.samples - len(case.expected)
    found = []
    if clip.sample_rate != case.rate:
        found.append(f"{clip.sample_rate} Hz, not {case.rate}")
    if case.exact and (more or not got.error <= case.error):
        found.append(f"{more:+d} samples, a difference of {got.error:.2g}")
    if not case.exact and (abs(more) > case.slack or got.alike < case.alike):
        found.append(f"{more:+d} samples, a correlation of {got.alike:.3f}")
    if abs(got.lag) > case.slack:
        found.append(f"a lag of {got.lag} samples")
    return found


def untold(case: Case, clip: Clip) -> list[str]:
    """What of the warnings isn't."""
    told = " ".join(clip.warnings).casefold()
    if all(word in told for word in case.told) and bool(told) == bool(case.told):
        return []
    return [f"warnings {clip.warnings}, not {case.told}"]


def seen(clip: Clip, expected: Samples) -> Seen:
    got, wanted = waveform(clip.data)[0].T, float32(expected)
    both = min(len(got), len(wanted))
    same = got.shape[1] == wanted.shape[1]
    error = np.abs(got[:both] - wanted[:both]).max(initial=0) if same else np.inf
    lag, alike = _lag(got.mean(1), wanted.mean(1))
    return Seen(clip.samples, lag, alike, float(error))


def _lag(got: Samples, wanted: Samples) -> tuple[int, float]:
    """By cross-correlation."""
    size = 1 << (len(got) + len(wanted)).bit_length()
    crossed = np.fft.irfft(np.fft.rfft(got, size) * np.conj(np.fft.rfft(wanted, size)), size)
    lag = int(np.argmax(crossed))
    power = np.sqrt(np.square(got).sum(dtype=float) * np.square(wanted).sum(dtype=float))
    return lag if lag < size // 2 else lag - size, float(crossed[lag] / (power or 1))


def brought(samples: Samples, rate: int, to_rate: int, channels: int) -> Samples:
    """float32 samples at another rate, on one or two channels."""
    samples = float32(samples)
    if samples.shape[1] != channels:
        samples = samples.mean(1, keepdims=True).repeat(channels, 1)
    resampled: Samples = soxr.resample(samples, rate, to_rate) if rate != to_rate else samples
    return resampled
