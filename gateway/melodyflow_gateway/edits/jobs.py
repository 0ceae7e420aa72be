"""Edits that go on behind their request: begun, watched, superseded, cancelled."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from melodyflow_client.responses import Progress, Result

from ..door.quota import Lease
from ..problems import RETRY_SECONDS, Problem, problem_of
from ..sessions.store import JobState, SessionKey, SessionStore
from ..wire.reading import Asked
from .edit import Edits, Prepared, Waiting
from .ticking import ticking

log = logging.getLogger(__name__)

REPORT_SECONDS = 1.0  # between two reports of a job, at least


class Listener(Protocol):
    """Is told of an edit as it goes on."""

    async def told(self, key: SessionKey, state: JobState) -> None:
        """How far it is, at most once a second."""

    async def done(self, key: SessionKey, state: JobState, audio: bytes) -> None:
        """It is done."""

    async def failed(self, key: SessionKey, state: JobState, problem: Problem) -> None:
        """It has failed."""


class Jobs:
    """The jobs of this gateway."""

    def __init__(self, edits: Edits, sessions: SessionStore) -> None:
        self._edits = edits
        self._sessions = sessions
        self._clients: dict[asyncio.Task[None], str | None] = {}  # of each job that runs

    async def start(
        self,
        key: SessionKey,
        asked: Asked,
        lease: Lease,
        *,
        api: str,
        listener: Listener,
        client: str | None = None,
    ) -> JobState:
        """Begins an edit as the session's job, and returns when its request is found good.

        client: a connection that can be lost; its job lives until leave() names it. None: the job
        lives as long as somebody polls it. The job that it supersedes learns that, in whichever
        gateway it runs, from its next report. The lease is released when the job ends. Raises
        Problem, and then keeps none.
        """
        prepared = await self._edits.prepare(key, asked)
        state = JobState(
            job=secrets.token_hex(8),
            polled=client is None,
            seed=prepared.seed,
            variation=asked.fields.options().get("variation"),
        )
        assert asked.audio is not None  # the models of jobs have no text-to-music
        await self._sessions.begin(key, state)
        task = asyncio.create_task(self._run(key, prepared, state, api, listener))
        # Known, and so cancelled, only after its first step: before that a task that is cancelled
        # never runs, and could not say how it ended.
        await asyncio.sleep(0)
        self._clients[task] = client

        def ended(task: asyncio.Task[None]) -> None:
            del self._clients[task]
            lease.release()

        task.add_done_callback(ended)
        return state

    def leave(self, client: str) -> None:
        """Cancels what a client has begun that has gone."""
        for task, its_client in self._clients.items():
            if its_client == client:
                task.cancel()

    async def close(self) -> None:
        """Cancels all of them."""
        tasks = list(self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self,
        key: SessionKey,
        prepared: Prepared,
        state: JobState,
        api: str,
        listener: Listener,
    ) -> None:
        try:
            await self._follow(key, prepared, state, api, listener)
        except asyncio.CancelledError:
            reason = "the edit was cancelled: its client has left, or the gateway stops"
            await self._fail(key, state, Problem(503, reason, RETRY_SECONDS), listener)
            raise
        except Exception as error:
            await self._fail(key, state, problem_of(error), listener)

    async def _follow(
        self,
        key: SessionKey,
        prepared: Prepared,
        state: JobState,
        api: str,
        listener: Listener,
    ) -> None:
        told = float("-inf")
        events = ticking(self._edits.run(prepared, api, patient=True), REPORT_SECONDS)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Result):
                    state = moved(state, event)
                    original = prepared.asked.audio
                    if await self._sessions.finish(key, state, original, event.audio):
                        await listener.told(key, state)
                        await listener.done(key, state, event.audio)
                    return
                before, state = state.status, moved(state, event)
                if state.status == before and time.monotonic() - told < REPORT_SECONDS:
                    continue
                told = time.monotonic()
                if not await self._sessions.report(key, state):
                    # Its client is gone, or it is superseded, and then nobody is told. Leaving
                    # the loop cancels the edit.
                    raise Problem(503, "nobody asked after it any more", RETRY_SECONDS)
                await listener.told(key, state)

    async def _fail(
        self, key: SessionKey, state: JobState, problem: Problem, listener: Listener
    ) -> None:
        state = failed(state, problem.message)
        try:
            superseded = not await self._sessions.finish(key, state)
        except Problem as lost:
            log.warning("a job's end could not be kept", extra={"reason": lost.message})
            superseded = False
        if not superseded:
            await listener.failed(key, state, problem)


def moved(state: JobState, event: Waiting | Progress | Result | None) -> JobState:
    """A job's state after an event of its edit; None: nothing new but the time."""
    state = replace(state, at=time.time())
    if isinstance(event, Waiting):
        return replace(
            state,
            status="warming" if event.warming else "queued",
            position=event.position,
            total=event.total,
            estimated_seconds=event.seconds,
        )
    if isinstance(event, Progress):
        return replace(
            state,
            status="processing",
            # One that is begun anew does not fall back.
            progress=max(state.progress, round(100 * event.progress, 2)),
            position=0,
            estimated_seconds=None,
        )
    if isinstance(event, Result):
        return replace(state, status="completed", progress=100.0, seed=event.seed)
    return state


def failed(state: JobState, reason: str) -> JobState:
    """The last state of a job that came to nothing."""
    return replace(state, status="failed", error=reason, at=time.time(), estimated_seconds=None)
