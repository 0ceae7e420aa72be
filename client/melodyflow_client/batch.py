"""Many edits of one clip: how many run at once, and what comes of each."""

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

Job: TypeAlias = Callable[[], AsyncGenerator[Progress | Result, None]]
Outcome: TypeAlias = Result | MelodyFlowError


def apart(outcome: Outcome) -> tuple[Result | None, MelodyFlowError | None]:
    """The result and the error, one of which is None."""
    return (outcome, None) if isinstance(outcome, Result) else (None, outcome)


def check_concurrency(value: object) -> None:
    """InvalidRequest for what is no number of edits at once."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"concurrency: must be a whole number, at least 1, not {shown(value)}")


def at_low_priority(options: EditOptions) -> EditOptions:
    """The options, at low priority unless they say otherwise: single edits of others overtake."""
    if options.get("priority") is None:
        return {**options, "priority": LOW_PRIORITY}
    return options


async def run_all(
    jobs: Mapping[Key, Job], concurrency: int, gone: Callable[[], bool]
) -> AsyncGenerator[tuple[Key, Progress | Outcome], None]:
    """The events of all edits as they come, each under its key and with one outcome at its end.

    gone: whether a server that has answered has been away for longer than anybody waits.

    The edits go on while the events are not fetched. Closing the generator cancels those that run.
    """
    events: asyncio.Queue[tuple[Key, Progress | Outcome] | asyncio.Task[None]] = asyncio.Queue()
    waiting = iter(jobs.items())
    answered = False  # by the server, to any of the edits
    lost: Unavailable | None = None

    async def run_one(key: Key, job: Job) -> Outcome:
        nonlocal answered
        try:
            async with aclosing(job()) as source:
                async for event in source:
                    if isinstance(event, Result):
                        answered = True
                        return event
                    answered = answered or event.stage not in ("queued", "warming")
                    events.put_nowait((key, event))
        except MelodyFlowError as error:
            if isinstance(error, Cancelled) and error.status is None:
                raise  # the client was closed: there is nothing to go on with
            away = isinstance(error, Unavailable | DeadlineExceeded) and not is_full(error)
            answered = answered or not away
            return error
        raise AssertionError("an edit ends with a result or an error")

    async def work() -> None:
        nonlocal lost
        for key, job in waiting:
            outcome = await run_one(key, job)
            events.put_nowait((key, outcome))
            if isinstance(outcome, Unavailable) and (not answered or gone()):
                # All retries went by without a server: the next edit would not meet one either.
                lost = outcome
                return

    workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(jobs)))]
    for worker in workers:
        worker.add_done_callback(events.put_nowait)
    try:
        running = len(workers)
        while running:
            event = await events.get()
            if isinstance(event, asyncio.Task):
                running -= 1
                event.result()  # raises what no edit's own failure is
            else:
                yield event
        for key, _ in waiting:
            assert lost is not None
            yield key, Unavailable(lost.message, status=lost.status)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
