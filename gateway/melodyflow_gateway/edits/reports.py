"""What is reported of an edit, and how often."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from melodyflow_client.responses import Progress, Result

from ..sessions.store import Standing
from .edit import Event, Waiting
from .previews import Previewed

REPORT_SECONDS = 1.0

Known = TypeVar("Known", bound=Standing)


async def reports(
    events: AsyncGenerator[Event, None], standing: Known
) -> AsyncGenerator[tuple[Known, Result | None], None]:
    """How far an edit is: when its status changes, else once a second; at last with its result.

    Closing the generator closes `events`, and so cancels the edit.
    """
    reported = float("-inf")
    async with aclosing(events):
        async for event in events:
            before, standing = standing.status, _after(standing, event)
            if isinstance(event, Result):
                yield standing, event
                return
            if standing.status != before or time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                yield standing, None


async def without_previews(
    events: AsyncGenerator[Event, None], tell: Callable[[Previewed], Awaitable[None]]
) -> AsyncGenerator[Event, None]:
    """The events but for previews, which are told at once: reports come once a second."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Previewed):
                await tell(event)
            else:
                yield event


def _after(standing: Known, event: Event) -> Known:
    standing = replace(standing, at=time.time())
    if isinstance(event, Waiting):
        return replace(
            standing,
            status="warming" if event.warming else "queued",
            position=event.position,
            total=event.total,
            estimated_seconds=event.seconds,
        )
    if isinstance(event, Progress):
        return replace(
            standing,
            status="processing",
            # An edit that begins again doesn't fall back.
            progress=max(standing.progress, round(100 * event.progress, 2)),
            position=0,
            estimated_seconds=None,
        )
    if isinstance(event, Result):
        return replace(standing, status="completed", progress=100.0)
    return standing
