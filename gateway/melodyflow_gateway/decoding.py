"""Uploads -> clips, in a few threads of their own: nothing else waits behind a slow file."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

from melodyflow_client.audio import Clip, Limits, load
from melodyflow_client.errors import DeadlineExceeded

from .budget import Share

Value = TypeVar("Value")

# As many as decode at once. Decoders let go of Python's lock while they work.
_THREADS = 2


class Abandoned(Exception):
    """The edit has ended; nobody wants its clip."""


class Decoding:
    """Work on bodies and files, beside the event loop: in separate threads, so that a body never
    waits behind a slow file. One owner has one thread of each at a time, so that nobody waits
    behind another one's."""

    def __init__(self) -> None:
        self._bodies = ThreadPoolExecutor(_THREADS, thread_name_prefix="bodies")
        self._files = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def turn(self, owner: str, kind: str = "body") -> asyncio.Lock:
        """Held while something of an owner's is worked on."""
        return self._turns.setdefault((owner, kind), asyncio.Lock())

    async def run(self, work: Callable[[], Value], owner: str) -> Value:
        """The value of what a thread does with a body; it should take well below a second."""
        async with self.turn(owner):
            return await self.run_in_turn(work)

    async def run_in_turn(self, work: Callable[[], Value]) -> Value:
        """The same for who holds the owner's turn."""
        return await asyncio.get_running_loop().run_in_executor(self._bodies, work)

    async def load(self, data: bytes, limits: Limits, share: Share, deadline: float) -> Clip:
        """A file as a clip, its bytes taken from `share`.

        deadline: by time.monotonic(), the wait for a thread included. Cancelling ends the thread's
        work at its next block. Raises AudioError, DeadlineExceeded, and what the share raises.
        """
        ended = threading.Event()

        def check() -> None:
            if ended.is_set():
                raise Abandoned

        def work() -> Clip:
            check()
            return load(data, limits=limits, budget=share, check=check)

        try:
            async with (
                asyncio.timeout(max(0.0, deadline - time.monotonic())),
                self.turn(share.owner, "file"),
            ):
                return await asyncio.get_running_loop().run_in_executor(self._files, work)
        except TimeoutError:
            raise DeadlineExceeded(
                "timeout_s: the deadline passed while the audio was decoded"
            ) from None
        finally:
            ended.set()

    def close(self) -> None:
        for pool in (self._bodies, self._files):
            pool.shutdown(wait=False, cancel_futures=True)
