"""Large answers go through in order, a few at a time, and leave the loop to others in between."""

import asyncio
from itertools import pairwise

from melodyflow_gateway.wire.turnstile import Turnstile

AT_ONCE, ANSWERS, PIECES = 3, 50, 4


def test_a_few_pass_each_time_that_the_loop_comes_round() -> None:
    async def run() -> None:
        turnstile, passed, between = Turnstile(AT_ONCE), list[tuple[int, int]](), list[int]()

        async def answer(number: int) -> None:
            for piece in range(PIECES):
                await turnstile.wait()
                passed.append((piece, number))

        async def another() -> None:
            while len(passed) < ANSWERS * PIECES:
                between.append(len(passed))
                await asyncio.sleep(0)

        await asyncio.gather(*map(answer, range(ANSWERS)), another())
        assert passed == [(piece, number) for piece in range(PIECES) for number in range(ANSWERS)]
        assert max(after - before for before, after in pairwise(between)) <= AT_ONCE

    asyncio.run(run())


def test_who_leaves_holds_nobody_up() -> None:
    async def run() -> None:
        turnstile = Turnstile(AT_ONCE)
        waiting = [asyncio.create_task(turnstile.wait()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert [task.cancelled() for task in waiting] == [True, False] * 10
        await turnstile.wait()

    asyncio.run(run())
