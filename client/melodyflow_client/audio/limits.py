"""How large a sound may be, and where the memory for it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..errors import AudioError

# gRPC cannot carry 2 GiB; servers allow far less (docs/contract.md).
MAX_BYTES = 2**31 - 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What load() accepts. The defaults leave the decision to the server.

    They are checked against the header before anything is decoded, and against the samples while
    they are decoded, because headers lie.
    """

    max_bytes: int = MAX_BYTES  # of the WAV or FLAC to send
    max_seconds: float = math.inf
    max_sample_rate: float = math.inf  # Hz
    max_channels: float = math.inf

    @classmethod
    def of_server(cls, told: Mapping[str, float]) -> Limits:
        """From a server's limits, by the names of its settings (contract/limits.py)."""
        return cls(
            max_bytes=min(int(told.get("max_audio_bytes", MAX_BYTES)), MAX_BYTES),
            max_seconds=told.get("max_seconds", math.inf),
            max_sample_rate=told.get("max_sample_rate", math.inf),
            max_channels=told.get("max_channels", math.inf),
        )

    def check_format(self, sample_rate: int, channels: int) -> None:
        """Raises AudioError, as all checks do."""
        if sample_rate < 1 or channels < 1:
            raise AudioError(f"audio: has {channels} channels at {sample_rate} Hz, so no sound")
        if sample_rate > self.max_sample_rate:
            raise AudioError(
                f"audio: {sample_rate} Hz; at most {self.max_sample_rate:g} Hz is allowed"
            )
        if channels > self.max_channels:
            raise AudioError(
                f"audio: {channels} channels; at most {self.max_channels:g} are allowed"
            )

    def check_length(self, samples: float, sample_rate: int) -> None:
        if samples > self.max_seconds * sample_rate:
            raise AudioError(f"audio: is longer than {self.max_seconds:g} s, the limit")

    def check_bytes(self, size: int) -> None:
        if size > self.max_bytes:
            raise AudioError(
                f"audio: takes more than {self.max_bytes} bytes, the most allowed; shorten it"
            )


class Budget(Protocol):
    """Where the bytes of clips come from, for programs that hold many.

    load() takes bytes before it allocates them, and gives back what it holds no longer. The bytes
    of the clip that it returns stay taken (unless they are the caller's own `bytes` object); after
    an error nothing does.
    """

    def take(self, size: int) -> None:
        """Reserves bytes, or raises."""

    def give_back(self, size: int) -> None:
        """Returns bytes that were taken."""


class Holding:
    """What one load() has taken from its budget."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget
        self.size = 0

    def take(self, size: int) -> None:
        if self._budget is not None:
            self._budget.take(size)
        self.size += size

    def give_back(self, size: int) -> None:
        self.size -= size
        if self._budget is not None:
            self._budget.give_back(size)

    def give_all_back(self) -> None:
        if self.size:
            self.give_back(self.size)
