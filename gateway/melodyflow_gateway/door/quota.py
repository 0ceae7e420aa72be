"""How much each owner may ask for: edits per minute, and concurrent edits; none once the gateway
is stopping."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Self

from ..problems import RETRY_SECONDS, Problem
from ..stopping import Stopping

_KEPT = 4096  # owners remembered, the latest ones


class Lease:
    """The right to run one edit; released when the edit ends or a `with` block is left."""

    def __init__(self, running: dict[str, int], owner: str, stopping: Stopping) -> None:
        self._running, self._owner, self._stopping = running, owner, stopping
        self._held = True
        running[owner] = running.get(owner, 0) + 1
        stopping.enter()

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
            self._stopping.leave()


class Quota:
    """per_minute: edits that may begin, all at once after a quiet minute. concurrent: edits that
    may run or wait."""

    def __init__(self, per_minute: int, concurrent: int, stopping: Stopping | None = None) -> None:
        self._per_second, self._burst, self._concurrent = per_minute / 60, per_minute, concurrent
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._stopping = stopping or Stopping()

    def check(self, owner: str) -> None:
        """Raises Problem, 429, for an owner who is over quota, and 503 for everybody once the
        gateway is stopping, before the body is read. The place is taken once that is here: a body
        that never comes holds none."""
        self._stopping.check()
        if self._running.get(owner, 0) >= self._concurrent:
            raise Problem(429, f"too many concurrent edits ({self._concurrent})", RETRY_SECONDS)
        self._begins(owner)

    def take(self, owner: str) -> Lease:
        """Raises Problem as `check` does."""
        self.check(owner)
        self.count(owner)
        return Lease(self._running, owner, self._stopping)

    def count(self, owner: str) -> None:
        """Counts against the rate only. Raises Problem, 429."""
        self._left[owner] = self._begins(owner) - 1, time.monotonic()
        self._left.move_to_end(owner)
        while len(self._left) > _KEPT:
            self._left.popitem(last=False)

    def _begins(self, owner: str) -> float:
        """How many edits may begin now. Raises Problem, 429, where it is none."""
        now = time.monotonic()
        left, at = self._left.get(owner, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._per_second)
        if left < 1:
            wait = (1 - left) / self._per_second
            raise Problem(429, f"too many requests: at most {self._burst} per minute", wait)
        return left
