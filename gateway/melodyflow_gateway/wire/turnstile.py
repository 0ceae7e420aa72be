"""Many large answers at once, and an event loop that has time for the others."""

from __future__ import annotations

import asyncio
from collections import deque

_AT_ONCE = 8


class Turnstile:
    """Lets so many through each time that the loop comes round, in the order in which they came;
    what else is ready runs in between."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Returns in one of the next rounds."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            loop.call_soon(self._open)
        await mine

    def _open(self) -> None:
        for _ in range(min(self._at_once, len(self._waiting))):
            mine = self._waiting.popleft()
            if not mine.done():  # who waited may have been cancelled
                mine.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._open)
