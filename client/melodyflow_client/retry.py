"""When to try again: exponential back-off with jitter, and patience with a missing server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0  # seconds, for a server that went away


@dataclass(frozen=True)
class Retry:
    """How often and how soon an edit is sent again if the server is unavailable.

    retries: how often at most, if the server is full or has never answered; 0: never, whatever the
        reason.
    first, longest: the first wait and the longest one, in seconds. Waits double, and each is
        shortened at random by up to half, so that clients refused together don't return together.
    patience: how long to wait for a server that has answered before and went away, for example to
        restart: seconds from when it went. An edit with a timeout waits until then instead.
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
        """Seconds to wait before each try of a server that went away; never ends."""
        wait = _FIRST_WAIT
        while True:
            yield wait * random.uniform(0.5, 1.0)
            wait = min(2 * wait, _LONGEST_WAIT)
