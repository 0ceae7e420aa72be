"""How fast the server works, and when the edits of a line will be done.

Work is counted in seconds of audio times network calls. What the server does in a second is seen
in the progress of the edits that run, and so has in it all that they take beside the network.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_HALF_LIFE = 20.0  # seconds of work after which what was measured counts half
_ENOUGH = 1.0  # seconds of work that say something
_CALL_COSTS = 1.0  # what a call takes whatever its length, as seconds of audio


@dataclass(frozen=True)
class Work:
    """What an edit is: seconds of audio, calls of the network."""

    seconds: float
    calls: int

    @property
    def of_a_call(self) -> float:
        return self.seconds + _CALL_COSTS

    @property
    def whole(self) -> float:
        """The codec counts as one call."""
        return self.of_a_call * (self.calls + 1)


class Pace:
    """Work done in a second while any edit runs; what is older counts less."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._running, self._since = 0, now()
        self._work = self._seconds = 0.0

    def did(self, work: float) -> None:
        """So much more is done."""
        self._pass()
        self._work += work

    def runs(self, edits: int) -> None:
        """So many run from now on."""
        self._pass()
        self._running = edits

    @property
    def rate(self) -> float | None:
        """Work a second; None while too little was seen."""
        self._pass()
        enough = self._seconds >= _ENOUGH and self._work > 0
        return self._work / self._seconds if enough else None

    def _pass(self) -> None:
        now = self._now()
        passed, self._since = now - self._since, now
        if self._running:
            kept = 0.5 ** (passed / _HALF_LIFE)
            self._work *= kept
            self._seconds = self._seconds * kept + passed


def seconds_until_done(
    running: Sequence[float], waiting: Sequence[float], slots: int, rate: float
) -> list[float]:
    """When each will be done: first those that run, then those that wait, the next one first.

    running: what is left of each; they share the rate evenly, and a slot that one of them leaves is
    the next one's. waiting: the work of each. slots: how many run at a time. rate: work a second.
    """
    done = [0.0] * (len(running) + len(waiting))
    # By `served`, the work that each that ran all along would have got, an edit's end is known as
    # soon as it begins, and only the next end matters for the clock.
    served = clock = 0.0
    ends = [(left, number) for number, left in enumerate(running)]
    heapq.heapify(ends)
    line = iter(enumerate(waiting, len(running)))
    free = max(slots, 1) - len(ends)
    while True:
        while free > 0 and (following := next(line, None)) is not None:
            heapq.heappush(ends, (served + following[1], following[0]))
            free -= 1
        if not ends:
            return done
        end, number = heapq.heappop(ends)
        clock += (end - served) * (len(ends) + 1) / rate
        served, done[number] = end, clock
        free += 1
