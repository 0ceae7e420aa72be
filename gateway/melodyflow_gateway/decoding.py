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
    """Work on bodies and files, beside the event loop. One owner has one thread at a time, so that
    nobody waits behind another one's slow files."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="decoding")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, work: Callable[[], Value], owner: str) -> Value:
        """The value of what a thread does; it should take well below a second."""
        async with self._turns.setdefault(owner, asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)

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
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self.run(work, share.owner)
        except TimeoutError:
            raise DeadlineExceeded(
                "timeout_s: the deadline passed while the audio was decoded"
            ) from None
        finally:
            ended.set()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
