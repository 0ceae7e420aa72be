"""How a gateway ends: it takes no new edit, and those in flight end first."""

from __future__ import annotations

import math
import time

from .problems import RETRY_SECONDS, Problem

REASON = "the gateway is stopping"

_FETCH_SECONDS = 5.0  # for clients that poll to fetch a result; the VST polls every few seconds
_END_SECONDS = 10.0  # for edits whose time is up to end


class Stopping:
    """seconds: for edits in flight to end in, from `begin()` on. After that they end with 503."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds, self._until = seconds, math.inf
        self._fetched_by = -math.inf
        self.edits = 0  # in flight
        self.begun = False

    def begin(self) -> None:
        """Takes no new edit. A second call ends those in flight."""
        seconds = 0.0 if self.begun else self._seconds
        self._until = min(self._until, time.monotonic() + seconds)
        self.begun = True

    @property
    def time_is_up(self) -> bool:
        """Whether edits in flight must end."""
        return time.monotonic() >= self._until

    @property
    def over(self) -> bool:
        """Whether nothing is left to wait for."""
        now = time.monotonic()
        done = not self.edits and now >= self._fetched_by
        return self.begun and (done or now >= self._until + _END_SECONDS)

    def check(self) -> None:
        """Raises Problem, 503, where no new edit is taken."""
        if self.begun:
            raise Problem(503, f"{REASON}; try again", RETRY_SECONDS)

    def check_time(self) -> None:
        """Raises Problem, 503, where edits in flight must end."""
        if self.time_is_up:
            raise Problem(503, f"{REASON}, and its time for edits in flight is up", RETRY_SECONDS)

    def enter(self) -> None:
        """An edit is in flight."""
        self.edits += 1

    def leave(self) -> None:
        """It isn't any more."""
        self.edits -= 1

    def await_fetch(self) -> None:
        """A result is there that its client must fetch."""
        self._fetched_by = time.monotonic() + _FETCH_SECONDS
