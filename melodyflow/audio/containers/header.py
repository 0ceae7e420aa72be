"""A file's header, and how its samples are decoded."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from melodyflow.audio.waveform import Waveform


@dataclass(frozen=True)
class Header(ABC):
    """What a file claims before any sample is decoded. Don't trust it."""

    channels: int
    sample_rate: int
    bits: int
    samples: int | None  # None if the file doesn't say

    @abstractmethod
    def decode(self, data: bytes, most: int, check: Callable[[], None]) -> tuple[Waveform, str]:
        """Decodes the file with this header: all samples `[channels, samples]`, and how they were
        stored, in soundfile's terms.

        All samples the header claims must be there. Formats decoded in blocks stop one block after
        `most` samples; the caller refuses longer files. `check` is called before each block. Values
        may be NaN or infinite. Raises AudioError, and whatever `check` raises.
        """
