"""Runs a batch of edits of one clip, a sweep or takes, some of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TypeAlias, TypeVar

from .errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowError,
    Unavailable,
    is_full,
    shown,
)
from .options import EditOptions
from .responses import Progress, Result

CONCURRENCY = 4
LOW_PRIORITY = 3

Key = TypeVar("Key")

Start: TypeAlias = Callable[[], AsyncGenerator[Progress | Result, None]]
Outcome: TypeAlias = Result | MelodyFlowError


def result_and_error(outcome: Outcome) -> tuple[Result | None, MelodyFlowError | None]:
    """The outcome as two, one of which is None."""
    return (outcome, None) if isinstance(outcome, Result) else (None, outcome)


def check_concurrency(value: object) -> None:
    """Raises InvalidRequest unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"concurrency: must be a whole number, at least 1, not {shown(value)}")


def at_low_priority(options: EditOptions) -> EditOptions:
    """The options with a low priority unless they have one: single edits overtake batches."""
    if options.get("priority") is None:
        return {**options, "priority": LOW_PRIORITY}
    return options


async def run_batch(
    edits: Mapping[Key, Start], concurrency: int, is_gone: Callable[[], bool]
) -> AsyncGenerator[tuple[Key, Progress | Outcome], None]:
    """The events of all edits as they arrive, each with its edit's key; an outcome ends an edit.

    edits: each started by a call. is_gone: whether a server that once answered has been away for
    longer than the client waits for it.

    The edits run on while nobody fetches events. Closing the generator cancels those that run.
    """
    events: asyncio.Queue[tuple[Key, Progress | Outcome] | asyncio.Task[None]] = asyncio.Queue()
    waiting = iter(edits.items())
    answered = False  # any edit, by the server
    lost: Unavailable | None = None

    async def run_one(key: Key, start: Start) -> Outcome:
        nonlocal answered
        try:
            async with aclosing(start()) as source:
                async for event in source:
                    if isinstance(event, Result):
                        answered = True
                        return event
                    answered = answered or event.stage not in ("queued", "warming")
                    events.put_nowait((key, event))
        except MelodyFlowError as error:
            if isinstance(error, Cancelled) and error.status is None:
                raise  # the client was closed, so no other edit can run
            away = isinstance(error, Unavailable | DeadlineExceeded) and not is_full(error)
            answered = answered or not away
            return error
        raise AssertionError("an edit ends with a result or an error")

    async def work() -> None:
        nonlocal lost
        for key, start in waiting:
            outcome = await run_one(key, start)
            events.put_nowait((key, outcome))
            if isinstance(outcome, Unavailable) and (not answered or is_gone()):
                # No retry reached a server: the next edit wouldn't either.
                lost = outcome
                return

    workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(edits)))]
    for worker in workers:
        worker.add_done_callback(events.put_nowait)
    try:
        running = len(workers)
        while running:
            event = await events.get()
            if isinstance(event, asyncio.Task):
                running -= 1
                event.result()  # raises what isn't an edit's own failure
            else:
                yield event
        for key, _ in waiting:
            assert lost is not None
            yield key, Unavailable(lost.message, status=lost.status)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
