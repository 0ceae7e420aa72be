"""Ticks between the events of a source, and how its reader is cancelled."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from melodyflow_gateway.edits.ticking import ticking


async def counting(number: int, pause: float = 0.0) -> AsyncGenerator[int, None]:
    for value in range(number):
        await asyncio.sleep(pause)
        yield value


async def read(source: AsyncGenerator[int, None], seconds: float) -> list[int | None]:
    async with aclosing(ticking(source, seconds)) as events:
        return [event async for event in events]


def test_events_come_in_order_and_ticks_where_there_are_none() -> None:
    assert asyncio.run(read(counting(3), 10)) == [0, 1, 2]
    slow = asyncio.run(read(counting(1, 0.25), 0.1))
    assert slow in ([None, None, 0], [None, 0])


def test_what_the_source_raises_reaches_the_reader() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(read(failing(), 10))


def test_a_cancellation_that_meets_an_event_counts_and_the_source_tidies_up() -> None:
    tidied = []

    async def endless() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            tidied.append(True)

    async def play() -> None:
        reading = asyncio.create_task(read(endless(), 10))
        await asyncio.sleep(0)  # the reader waits
        await asyncio.sleep(0)  # the first event is there, and the reader has not run yet
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, 5)

    asyncio.run(play())
    assert tidied == [True]
