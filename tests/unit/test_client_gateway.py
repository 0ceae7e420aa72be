"""How long the gateway's edits wait for a server that is away."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from melodyflow_client import AsyncMelodyFlowClient, Result, Retry
from melodyflow_client.audio import load
from melodyflow_gateway.budget import Budget
from melodyflow_gateway.decoding import Decoding
from melodyflow_gateway.edits.edit import Edits, Waiting
from melodyflow_gateway.edits.previews import Previews
from melodyflow_gateway.edits.triton import Triton
from melodyflow_gateway.metrics import Metrics
from melodyflow_gateway.problems import Problem
from melodyflow_gateway.sessions.in_process import InProcessSessions
from melodyflow_gateway.stopping import Stopping
from melodyflow_gateway.wire.reading import Asked
from melodyflow_gateway.wire.requests import EditFields

from .client_peer import CLIP, FULL, Context, Peer, Request, edit, say

RETRY = Retry(retries=2, first=0.01, longest=0.02, patience=0.6)
EDIT_SECONDS = 3.0


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


def edits_of(client: AsyncMelodyFlowClient) -> Edits:
    sessions = InProcessSessions(10, 2**20, 60.0, 60.0)
    return Edits(
        client,
        Triton(client),
        sessions,
        Metrics(),
        Decoding(),
        Previews(Budget(2**26, Metrics().budget_bytes)),
        Stopping(),
        max_seconds=60,
        edit_seconds=EDIT_SECONDS,
        owner_slots=0,
    )


async def events_of(edits: Edits, patient: bool, timeout_s: float | None) -> list[object]:
    """The events of one edit, and what it failed with."""
    fields = EditFields(variation="celtic", timeout_s=timeout_s)
    share = Budget(2**26, Metrics().budget_bytes).share("somebody")
    prepared = await edits.prepare(None, Asked(fields, load(CLIP).data, share))
    events: list[object] = []
    try:
        async for event in edits.run(prepared, "transform", patient=patient):
            if event is not None:
                events.append(event)
    except Problem as problem:
        events.append(problem)
    return events


@pytest.mark.parametrize(
    ("seen", "patient", "timeout_s", "least", "most"),
    [
        (True, False, None, 0.6, 1.6),  # as long as patience lasts
        (True, False, 2.0, 1.2, 2.2),  # until its own deadline
        (True, True, None, 2.2, 3.2),  # until the gateway's
        (False, True, None, 2.2, 3.2),
        (False, False, None, 0.0, 0.8),  # as Retry says
        (False, False, 2.0, 0.0, 0.8),
    ],
)
def test_a_missing_server_is_a_503_once_patience_ends(
    peer: Peer,
    seen: bool,
    patient: bool,
    timeout_s: float | None,
    least: float,
    most: float,
) -> None:
    async def run() -> tuple[list[object], float]:
        async with AsyncMelodyFlowClient(peer.address, retry=RETRY) as client:
            edits = edits_of(client)
            if seen:
                await events_of(edits, False, None)
            await asyncio.to_thread(peer.stop)
            started = time.monotonic()
            return await events_of(edits, patient, timeout_s), time.monotonic() - started

    events, seconds = asyncio.run(run())
    problem = events[-1]
    assert isinstance(problem, Problem)
    assert (problem.status, problem.retry_after) == (503, 5)
    assert least <= seconds <= most
    warming = any(isinstance(event, Waiting) and event.warming for event in events)
    assert warming == (seen or patient)


def test_an_edit_is_queued_once_its_server_is_back(peer: Peer) -> None:
    def after_a_while(request: Request, context: Context) -> Iterator[Any]:
        time.sleep(1.6)
        return edit(request, context)

    peer.scripts = [edit, say("the server is shutting down; try again"), after_a_while, edit]

    async def run() -> list[object]:
        async with AsyncMelodyFlowClient(peer.address, retry=RETRY) as client:
            edits = edits_of(client)
            await events_of(edits, False, None)
            waiting = asyncio.create_task(events_of(edits, False, None))
            while len(peer.requests) < 3:
                await asyncio.sleep(0.01)
            await events_of(edits, False, None)  # is answered before it
            return await waiting

    events = asyncio.run(run())
    waits = [event.warming for event in events if isinstance(event, Waiting)]
    assert waits == [False, True, False]
    assert isinstance(events[-1], Result)


def test_a_full_queue_is_not_warming(peer: Peer) -> None:
    peer.scripts = [edit, FULL]

    async def run() -> list[object]:
        async with AsyncMelodyFlowClient(peer.address, retry=RETRY) as client:
            edits = edits_of(client)
            await events_of(edits, False, None)
            return await events_of(edits, True, None)

    *events, problem = asyncio.run(run())
    assert isinstance(problem, Problem)
    assert problem.status == 503
    assert all(isinstance(event, Waiting) and not event.warming for event in events)
    assert len(peer.requests) == 4
