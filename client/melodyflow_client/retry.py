"""When to try again: exponential back-off with jitter, and patience with a server gone away."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0  # seconds, for a server that went away


@dataclass(frozen=True)
class Retry:
    """How often and how soon an edit that met an unavailable server is sent again.

    retries: at most so many after the first try, for a server that is full or has never answered;
    0: nothing is sent twice. first, longest: seconds of the first and of any wait; waits double,
    and each is cut to a random half to whole of itself so that clients that were refused together
    do not come back together.
    patience: a server that has answered and went away, as for a restart, is tried for so many
    seconds, counted from when it went, or until the edit's timeout where it has one.
    """

    retries: int = 5
    first: float = 0.5
    longest: float = 8.0
    patience: float = 60.0

    def delays(self) -> Iterator[float]:
        """Seconds to wait before each retry."""
        for attempt in range(self.retries):
            yield min(self.longest, self.first * 2**attempt) * random.uniform(0.5, 1.0)

    @staticmethod
    def waits() -> Iterator[float]:
        """Seconds to wait before each try of a server that went away, without an end."""
        wait = _FIRST_WAIT
        while True:
            yield wait * random.uniform(0.5, 1.0)
            wait = min(2 * wait, _LONGEST_WAIT)
