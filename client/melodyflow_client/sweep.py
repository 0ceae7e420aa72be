"""Many variations of one clip: what is asked for, how many run at once, what comes of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from .errors import Cancelled, DeadlineExceeded, InvalidRequest, MelodyFlowError, Unavailable
from .events import Progress, Result
from .presets import Presets
from .protocol import Edit, EditOptions, SweepOptions, plan

CONCURRENCY = 4
LOW_PRIORITY = 2


@dataclass(frozen=True)
class SweepResult:
    """What came of one variation: a result, or the error that it ended with; the other is None."""

    variation: str
    result: Result | None = None
    error: MelodyFlowError | None = None


SweepEvent: TypeAlias = tuple[str, Progress] | SweepResult


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was asked for: its edits by variation, and how many of them run at once."""

    edits: Mapping[str, Edit]
    concurrency: int


def plan_sweep(
    variations: Iterable[str] | None, concurrency: int, options: SweepOptions, presets: Presets
) -> Sweep:
    """One edit a variation, at low priority unless asked otherwise; None: all variations.

    Raises InvalidRequest, UnknownVariation.
    """
    unknown = options.keys() - SweepOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"a sweep has no option {sorted(unknown)[0]!r}")
    if isinstance(variations, str):
        raise InvalidRequest(f"variations: must be a list of names, not {variations!r}")
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequest(
            f"concurrency: must be a whole number, at least 1, not {concurrency!r}"
        )
    edits = {}
    for name in presets if variations is None else variations:
        asked: EditOptions = {"prompt": None, **options, "variation": name}
        if asked.get("priority") is None:
            asked["priority"] = LOW_PRIORITY
        edits[name] = plan(asked, presets)
    return Sweep(edits, concurrency)


async def run_all(
    sweep: Sweep, run: Callable[[Edit], AsyncGenerator[Progress | Result, None]]
) -> AsyncGenerator[SweepEvent, None]:
    """The events of all edits as they come, each started by `run`; one SweepResult an edit.

    The edits go on while the events are not fetched. Closing the generator cancels those that run.
    """
    events: asyncio.Queue[SweepEvent | asyncio.Task[None]] = asyncio.Queue()
    waiting = iter(sweep.edits.items())
    answered = False  # by the server, to any of the edits
    lost: Unavailable | None = None

    async def edit_one(variation: str, edit: Edit) -> SweepResult:
        nonlocal answered
        try:
            async with aclosing(run(edit)) as source:
                async for event in source:
                    if isinstance(event, Result):
                        answered = True
                        return SweepResult(variation, result=event)
                    answered = answered or event.stage != "queued"
                    events.put_nowait((variation, event))
        except MelodyFlowError as error:
            if isinstance(error, Cancelled) and error.status is None:
                raise  # the client was closed: there is nothing to go on with
            answered = answered or not isinstance(error, Unavailable | DeadlineExceeded)
            return SweepResult(variation, error=error)
        raise AssertionError("an edit ends with a result or an error")

    async def work() -> None:
        nonlocal lost
        for variation, edit in waiting:
            done = await edit_one(variation, edit)
            events.put_nowait(done)
            if isinstance(done.error, Unavailable) and not answered:
                # All retries went by and nobody has met a server: the next edit would not either.
                lost = done.error
                return

    workers = [asyncio.create_task(work()) for _ in range(min(sweep.concurrency, len(sweep.edits)))]
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
        for variation, _ in waiting:
            assert lost is not None
            yield SweepResult(variation, error=Unavailable(lost.message, status=lost.status))
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
