"""When to try again: exponential back-off with jitter."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """How often and how soon an edit that met an unavailable server is sent again.

    retries: at most so many after the first try. first, longest: seconds of the first and of any
    wait; waits double, and each is cut to a random half to whole of itself so that clients that
    were refused together do not come back together.
    """

    retries: int = 5
    first: float = 0.5
    longest: float = 8.0

    def delays(self) -> Iterator[float]:
        """Seconds to wait before each retry."""
        for attempt in range(self.retries):
            yield min(self.longest, self.first * 2**attempt) * random.uniform(0.5, 1.0)
