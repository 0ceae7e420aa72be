"""What a file says of itself, and how its samples are got."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from melodyflow.audio.waveform import Waveform


@dataclass(frozen=True)
class Header(ABC):
    """What a file says of itself before a sample is decoded; none of it is to be trusted."""

    channels: int
    sample_rate: int
    bits: int
    samples: int | None  # None: the file does not say

    @abstractmethod
    def decode(self, data: bytes, most: int, check: Callable[[], None]) -> tuple[Waveform, str]:
        """All samples `[channels, samples]` of the file whose header this is, and how they were
        stored, as soundfile names it.

        What the header announced must be there. A file that is decoded block by block is given up
        one block after `most` samples; the caller refuses what is longer. Values may be NaN or
        infinite. Raises AudioError, and what `check`, which is called before each block, raises.
        """
