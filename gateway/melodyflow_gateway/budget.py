"""The bytes that a gateway may hold for its clients: one budget for all doors and all owners."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Self

from prometheus_client import Gauge

from .problems import RETRY_SECONDS, Problem
from .settings import Settings

_LOOK_SECONDS = 0.05

# Measured: the interpreter with its libraries, and what allocators keep of what was freed.
_PROCESS_BYTES = 320 * 2**20
# Files that are decoded, beside what is in the budget: a decoder's tables (cap_allocations()) and
# blocks, for each thread.
_DECODING_BYTES = 2 * 96 * 2**20
_CONNECTION_BYTES = 256 * 2**10  # buffers, a request's head, its task


def most_memory(settings: Settings) -> int:
    """The most memory that a gateway takes, in bytes."""
    sessions = 0 if settings.redis_url else settings.session_bytes
    connections = settings.connections * _CONNECTION_BYTES
    return settings.memory_bytes + sessions + connections + _PROCESS_BYTES + _DECODING_BYTES


class Budget:
    """total: bytes. One owner has at most half of them, so that there is room for others.

    gauge: shows what is taken. Threads may take and give back too.
    """

    def __init__(self, total: int, gauge: Gauge) -> None:
        self.total = total
        self._gauge = gauge
        self._lock = threading.Lock()
        self._taken = 0
        self._by_owner: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def most_of_one(self) -> int:
        """Bytes that one owner may have at a time."""
        return self.total // 2

    def share(self, owner: str) -> Share:
        """What one request or job of an owner holds, nothing yet."""
        return Share(self, owner)

    def _take(self, owner: str, size: int) -> None:
        with self._lock:
            if self._taken + size > self.total:
                what = f"is busy: its {self.total} bytes for clips are taken"
                raise Problem(503, f"the gateway {what}; try again", RETRY_SECONDS)
            if self._by_owner[owner] + size > self.most_of_one:
                raise Problem(
                    503,
                    f"your edits hold half of the gateway's {self.total} bytes for clips; try "
                    "again when some are done, or send a shorter clip",
                    RETRY_SECONDS,
                )
            self._change(owner, size)

    def _give_back(self, owner: str, size: int) -> None:
        with self._lock:
            self._change(owner, -size)

    def _change(self, owner: str, size: int) -> None:
        self._taken += size
        self._by_owner[owner] += size
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        self._gauge.set(self._taken)


class Share:
    """A part of the budget. Released when its `with` is left, or by hand; later takes are refused
    nothing and count for nobody, for what is released is over."""

    def __init__(self, budget: Budget, owner: str) -> None:
        self._budget, self._owner = budget, owner
        self._size = 0
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def owner(self) -> str:
        """Who it counts for: a token's owner, or an address where no tokens are set."""
        return self._owner

    @property
    def most(self) -> int:
        """Bytes that it may ever hold."""
        return self._budget.most_of_one

    @property
    def size(self) -> int:
        return self._size

    def take(self, size: int) -> None:
        """Raises Problem, 503, where so many bytes are not left."""
        if not self._over:
            self._budget._take(self._owner, size)
            self._size += size

    async def wait_for(self, size: int) -> None:
        """Takes bytes as soon as there are so many: others are about to give theirs back.

        Raises Problem, 413, where there will never be so many for this owner.
        """
        self.must_fit(size)
        while True:
            try:
                self.take(size)
                return
            except Problem:
                await asyncio.sleep(_LOOK_SECONDS)

    def must_fit(self, size: int) -> None:
        """Raises Problem, 413, where so many bytes more will never be left for this owner."""
        if self._size + size > self.most:
            raise Problem(
                413,
                f"audio: the gateway needs {self._size + size} bytes for this edit; at most "
                f"{self.most} are allowed; send a shorter clip",
            )

    def moved(self) -> Share:
        """Another share with all that this one held: for a job that outlives its request."""
        other = Share(self._budget, self._owner)
        other._size, self._size = self._size, 0
        return other

    def give_back(self, size: int) -> None:
        """Returns bytes that were taken."""
        if not self._over:
            self._budget._give_back(self._owner, size)
            self._size -= size

    def release(self) -> None:
        """Returns all; may be called twice."""
        self._over, size, self._size = True, self._size, 0
        self._budget._give_back(self._owner, size)
