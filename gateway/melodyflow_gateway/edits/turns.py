"""Whose edit Triton gets next.

Triton's queue knows no owners, so it is kept empty: what Triton has no slot for waits here.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Turn:
    """One edit's turn. priority: among its owner's edits, 1 comes first."""

    owner: str
    priority: int
    number: int
    granted: bool = False
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self, *, granted: bool) -> None:
        """It is granted, or its edit has left."""
        self.granted = granted
        self._settled.set()

    async def begins(self) -> None:
        """Waits until it is granted; raises CancelledError if its edit leaves before."""
        await self._settled.wait()
        if not self.granted:
            raise asyncio.CancelledError


class Turns:
    """Grants turns, at most `slots()` at a time, to the owner that holds fewest; among equals to
    the one served longest ago.

    most_of_one: turns that one owner holds at most, given the slots. The rest are for owners that
    hold none, so that whoever comes next finds one: an edit can't be interrupted.
    """

    def __init__(self, slots: Callable[[], int], most_of_one: Callable[[int], int]) -> None:
        self._slots, self._most_of_one = slots, most_of_one
        self._waiting: list[Turn] = []
        self._held: Counter[str] = Counter()
        # Of each owner here: how many grants there were when it last got one, or just before that
        # when it came.
        self._served: dict[str, float] = {}
        self._numbers, self._grants = itertools.count(), 0

    def join(self, owner: str, priority: int) -> Turn:
        """A turn that will be granted in time, unless it leaves before."""
        turn = Turn(owner, priority, next(self._numbers))
        self._served.setdefault(owner, self._grants - 0.5)
        self._waiting.append(turn)
        self._grant()
        return turn

    def leave(self, turn: Turn) -> None:
        """Ends a turn, granted or not."""
        if turn.granted:
            self._held[turn.owner] -= 1
        else:
            self._waiting.remove(turn)
            turn.settle(granted=False)
        if not self._held[turn.owner]:
            del self._held[turn.owner]
            if all(other.owner != turn.owner for other in self._waiting):
                del self._served[turn.owner]
        self._grant()

    def order(self) -> list[Turn]:
        """Those that wait, the next one first."""
        ahead = Counter(self._held)
        ranked = []
        for turn in sorted(self._waiting, key=lambda turn: (turn.priority, turn.number)):
            ranked.append((ahead[turn.owner], self._served[turn.owner], turn.number, turn))
            ahead[turn.owner] += 1
        return [turn for *_, turn in sorted(ranked, key=lambda rank: rank[:3])]

    def _grant(self) -> None:
        slots = self._slots()
        kept = slots - self._most_of_one(slots)
        for turn in self.order():
            free = slots - self._held.total()
            if free <= (kept if self._held[turn.owner] else 0):
                return
            self._waiting.remove(turn)
            self._grants += 1
            self._held[turn.owner] += 1
            self._served[turn.owner] = self._grants
            turn.settle(granted=True)
