"""How much one token may ask for: edits a minute, and edits at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Self

from ..problems import RETRY_SECONDS, Problem

_KEPT = 4096  # owners remembered; those that asked last


class Lease:
    """The right of one edit to run, given back when it ends or a `with` is left."""

    def __init__(self, running: dict[str, int], owner: str) -> None:
        self._running, self._owner = running, owner
        self._held = True
        running[owner] = running.get(owner, 0) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """May be called twice."""
        if self._held:
            self._held = False
            self._running[self._owner] -= 1
            if not self._running[self._owner]:
                del self._running[self._owner]


class Limits:
    """per_minute: edits that may begin, all of them at once after a quiet minute. concurrent:
    edits that may run or wait."""

    def __init__(self, per_minute: int, concurrent: int) -> None:
        self._per_second, self._burst, self._concurrent = per_minute / 60, per_minute, concurrent
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._running: dict[str, int] = {}

    def take(self, owner: str) -> Lease:
        """Raises Problem, 429, for who asks for too much."""
        if self._running.get(owner, 0) >= self._concurrent:
            raise Problem(
                429, f"{self._concurrent} edits of yours run or wait already", RETRY_SECONDS
            )
        self.count(owner)
        return Lease(self._running, owner)

    def count(self, owner: str) -> None:
        """Counts towards the rate alone. Raises Problem, 429."""
        now = time.monotonic()
        left, at = self._left.get(owner, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._per_second)
        if left < 1:
            raise Problem(429, f"more than {self._burst} a minute", (1 - left) / self._per_second)
        self._left[owner] = left - 1, now
        self._left.move_to_end(owner)
        while len(self._left) > _KEPT:
            self._left.popitem(last=False)
