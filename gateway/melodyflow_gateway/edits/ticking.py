"""The events of a source, and a tick when there are none for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

Event = TypeVar("Event")


async def ticking(
    source: AsyncGenerator[Event, None], seconds: float
) -> AsyncGenerator[Event | None, None]:
    """The source's events, and None after each `seconds` without one.

    The source runs in a task of its own, which ends when this generator is closed. However often
    its reader is cancelled, the source can still tidy up.
    """
    events: asyncio.Queue[Event | asyncio.Task[None]] = asyncio.Queue()

    async def pump() -> None:
        async with aclosing(source):
            async for event in source:
                events.put_nowait(event)

    task = asyncio.create_task(pump())
    task.add_done_callback(events.put_nowait)
    try:
        while True:
            try:
                # Not wait_for(): Python 3.11's drops a cancellation that meets an event.
                async with asyncio.timeout(seconds):
                    event = await events.get()
            except TimeoutError:
                yield None
                continue
            if event is task:
                task.result()  # raises what the source has raised
                return
            yield event  # type: ignore[misc]  # not the task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
