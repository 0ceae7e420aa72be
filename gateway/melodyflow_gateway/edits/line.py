"""The edits of this gateway: which of them wait, which run, and when they will be done."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean

from ..metrics import Metrics
from .pace import Pace, Work, seconds_until_done
from .turns import Turn, Turns

_FRESH_SECONDS = 0.5  # how old an estimate may be


class Line:
    """Counts edits, and estimates when each will be done.

    seconds_a_call: the mean time of a network call, for as long as no edit was seen at work; None
    where that is unknown.
    """

    def __init__(
        self, turns: Turns, metrics: Metrics, seconds_a_call: Callable[[], float | None]
    ) -> None:
        self._turns, self._metrics, self._seconds_a_call = turns, metrics, seconds_a_call
        self._pace = Pace()
        self._waiting: list[Turn] = []  # those that Triton has not begun, the oldest first
        self._running: set[Turn] = set()
        self._work: dict[Turn, Work] = {}
        self._left: dict[Turn, float] = {}  # of that work
        self._estimates: dict[Turn, float] = {}
        self._estimated = float("-inf")

    @property
    def waiting(self) -> int:
        """The number of edits that Triton has not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """The number of edits that Triton works on."""
        return len(self._running)

    def waits(self, turn: Turn) -> bool:
        """Whether Triton has not begun it."""
        return turn in self._waiting

    def enter(self, turn: Turn, work: Work) -> None:
        """It comes, or it begins again."""
        self._work[turn], self._left[turn] = work, work.whole
        self._running.discard(turn)
        if turn not in self._waiting:
            self._waiting.append(turn)
        self._count()

    def go_on(self, turn: Turn, share: float) -> None:
        """Triton has done a share of it, 0 to 1."""
        left = self._work[turn].whole * (1 - share)
        if turn in self._waiting:
            self._waiting.remove(turn)
            self._running.add(turn)
            self._count()
            # What it begins with is no work of now: it was cached, or done before an outage.
        elif left < self._left[turn]:
            self._pace.did(self._left[turn] - left)
        self._left[turn] = min(left, self._left[turn])

    def leave(self, turn: Turn, *, done: bool) -> None:
        """It is done, or has come to nothing."""
        if turn not in self._work:
            return
        if done:
            self._pace.did(self._left[turn])
        del self._work[turn], self._left[turn]
        self._running.discard(turn)
        if turn in self._waiting:
            self._waiting.remove(turn)
        self._count()

    def position(self, turn: Turn) -> int:
        """How many wait before it, as things are."""
        return self._in_order().index(turn)

    def seconds(self, turn: Turn) -> float | None:
        """About how long until it is done; None where nothing is known."""
        now = time.monotonic()
        if turn not in self._estimates or now - self._estimated > _FRESH_SECONDS:
            self._estimates, self._estimated = self._estimate(), now
        return self._estimates.get(turn)

    def _in_order(self) -> list[Turn]:
        """Those that wait, the next one first."""
        return [turn for turn in self._waiting if turn.granted] + self._turns.order()

    def _estimate(self) -> dict[Turn, float]:
        rate = self._pace.rate or self._guess()
        if rate is None:
            return {}
        sent = [turn for turn in self._left if turn.granted]
        line = [turn for turn in self._turns.order() if turn in self._left]
        seconds = seconds_until_done(
            [self._left[turn] for turn in sent],
            [self._left[turn] for turn in line],
            len(sent),
            rate,
        )
        return dict(zip(sent + line, seconds, strict=True))

    def _guess(self) -> float | None:
        """The rate if a call took as long as the server's have taken so far."""
        seconds = self._seconds_a_call()
        if not seconds:
            return None
        return fmean(work.of_a_call for work in self._work.values()) / seconds

    def _count(self) -> None:
        self._pace.runs(len(self._running))
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len(self._running))
