"""Decoded audio in memory."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]  # [channels, samples], full scale at 1.0


@dataclass(frozen=True)
class Extent:
    """The size of a waveform; rate in Hz."""

    channels: int
    samples: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Audio:
    """A decoded file: `samples` float32 `[channels, samples]`, all finite; rate in Hz."""

    samples: Waveform
    sample_rate: int
    subtype: str  # how the file stored a sample: PCM_16, PCM_24, PCM_32, FLOAT, DOUBLE, PCM_S8

    @property
    def extent(self) -> Extent:
        return Extent(self.samples.shape[0], self.samples.shape[1], self.sample_rate)


def peak(waveform: Waveform) -> float:
    """The largest absolute sample."""
    return max(float(waveform.max(initial=0.0)), -float(waveform.min(initial=0.0)))
