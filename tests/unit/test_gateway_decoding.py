"""Files are decoded beside the loop: nobody waits behind another one's, and deadlines end them."""

import asyncio
import threading
import time

import pytest
from prometheus_client import Gauge

from melodyflow_client.audio import Limits
from melodyflow_client.errors import DeadlineExceeded
from melodyflow_gateway import decoding as module
from melodyflow_gateway.budget import Budget
from melodyflow_gateway.decoding import Decoding

from ..gateway.conftest import wav


def test_an_owner_with_many_slow_files_leaves_a_thread_to_others() -> None:
    async def run() -> None:
        decoding, go_on = Decoding(), threading.Event()
        slow = [asyncio.create_task(decoding.run(lambda: go_on.wait(60), "one")) for _ in range(10)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(decoding.run(lambda: 5, "other"), 30) == 5
        assert not any(task.done() for task in slow)
        go_on.set()
        assert all(await asyncio.gather(*slow))
        decoding.close()

    asyncio.run(run())


def test_a_deadline_ends_the_decoding_and_gives_its_bytes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()

    def load(data: bytes, *, limits: Limits, budget: object, check: object) -> None:
        try:
            while True:
                time.sleep(0.01)
                check()  # type: ignore[operator]
        finally:
            ended.set()

    monkeypatch.setattr(module, "load", load)

    async def run() -> None:
        decoding = Decoding()
        budget = Budget(2**28, Gauge("taken", "", registry=None))
        with budget.share("one") as share, pytest.raises(DeadlineExceeded, match="timeout_s"):
            await decoding.load(wav(), Limits(), share, time.monotonic() + 0.1)
        assert await asyncio.to_thread(ended.wait, 30)
        assert budget.taken == 0
        decoding.close()

    asyncio.run(run())
