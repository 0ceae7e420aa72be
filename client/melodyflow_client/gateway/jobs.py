"""Edits that go on behind their request: begun, watched, superseded, cancelled."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from ..events import Progress, Result
from .edits import Edits, Prepared, Waiting
from .limits import Lease
from .problems import Problem, problem_of
from .reading import Asked
from .sessions import JobState, SessionKey, SessionStore
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
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by job
        self._latest: dict[SessionKey, str] = {}  # jobs by session

    async def start(
        self,
        key: SessionKey,
        asked: Asked,
        lease: Lease,
        *,
        api: str,
        listener: Listener | None = None,
    ) -> JobState:
        """Begins an edit as the session's job, and returns when its request is found good.

        With a listener the job lives as long as its client is connected; without, as long as
        somebody polls it. The lease is released when it ends. Raises Problem, and then keeps none.
        """
        prepared = await self._edits.prepare(key, asked)
        state = JobState(
            job=secrets.token_hex(8),
            polled=listener is None,
            seed=prepared.seed,
            variation=asked.fields.options().get("variation"),
        )
        assert asked.audio is not None  # the models of jobs have no text-to-music
        await self._sessions.begin(key, state, asked.audio)
        # One of another gateway learns from its next report that it is superseded.
        self.cancel(self._latest.get(key, ""))
        task = asyncio.create_task(self._run(key, prepared, state, api, listener))
        self._tasks[state.job], self._latest[key] = task, state.job

        def ended(_: object) -> None:
            self._tasks.pop(state.job, None)
            if self._latest.get(key) == state.job:
                del self._latest[key]
            lease.release()

        task.add_done_callback(ended)
        return state

    def cancel(self, job: str) -> None:
        """Cancels a job of this gateway, if it still runs."""
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Cancels all of them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(
        self,
        key: SessionKey,
        prepared: Prepared,
        state: JobState,
        api: str,
        listener: Listener | None,
    ) -> None:
        try:
            await self._follow(key, prepared, state, api, listener)
        except asyncio.CancelledError:
            await self._end(key, failed(state, "the edit was cancelled"), None)
            raise
        except Exception as error:
            problem = problem_of(error)
            state = failed(state, problem.message)
            if await self._end(key, state, None) and listener is not None:
                await listener.failed(key, state, problem)

    async def _follow(
        self,
        key: SessionKey,
        prepared: Prepared,
        state: JobState,
        api: str,
        listener: Listener | None,
    ) -> None:
        told = float("-inf")
        events = ticking(self._edits.run(prepared, api), REPORT_SECONDS)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Result):
                    state = moved(state, event)
                    if await self._sessions.finish(key, state, event.audio) and listener:
                        await listener.told(key, state)
                        await listener.done(key, state, event.audio)
                    return
                before, state = state.status, moved(state, event)
                if state.status == before and time.monotonic() - told < REPORT_SECONDS:
                    continue
                told = time.monotonic()
                if not await self._sessions.report(key, state):
                    # Superseded, and then this changes nothing, or its client is gone. Leaving
                    # the loop cancels the edit.
                    await self._end(key, failed(state, "nobody asked after it any more"), None)
                    return
                if listener is not None:
                    await listener.told(key, state)

    async def _end(self, key: SessionKey, state: JobState, result: bytes | None) -> bool:
        try:
            return await self._sessions.finish(key, state, result)
        except Problem as problem:
            log.warning("a job's end could not be kept", extra={"reason": problem.message})
            return True


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
            progress=round(100 * event.progress, 2),
            position=0,
            estimated_seconds=None,
        )
    if isinstance(event, Result):
        return replace(state, status="completed", progress=100.0, seed=event.seed)
    return state


def failed(state: JobState, reason: str) -> JobState:
    """The last state of a job that came to nothing."""
    return replace(state, status="failed", error=reason, at=time.time(), estimated_seconds=None)
