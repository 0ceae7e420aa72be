"""Jobs: edits that outlive the request that began them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Protocol

from ..door.quota import Lease
from ..problems import RETRY_SECONDS, Problem, problem_of
from ..sessions.store import JobRecord, SessionKey, SessionStore, Standing, Unreachable
from ..stopping import Stopping
from ..wire.reading import Asked
from .edit import Edits, Prepared
from .previews import Previewed
from .reports import reports, without_previews

log = logging.getLogger(__name__)

_STORE_SECONDS = 60.0  # for which the sessions are waited for, once an edit is done


class Listener(Protocol):
    """Is told how an edit goes on."""

    async def told(self, key: SessionKey, standing: Standing) -> None:
        """How far it is: when its status changes, else once a second."""

    async def previewed(self, key: SessionKey, previewed: Previewed) -> None:
        """There is a preview."""

    async def done(self, key: SessionKey, record: JobRecord, audio: bytes) -> None:
        """It is done."""

    async def failed(self, key: SessionKey, record: JobRecord, problem: Problem) -> None:
        """It has failed."""


class Jobs:
    """The jobs of this gateway."""

    def __init__(self, edits: Edits, sessions: SessionStore, stopping: Stopping) -> None:
        self._edits = edits
        self._sessions = sessions
        self._stopping = stopping
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
    ) -> JobRecord:
        """Begins an edit as the session's job; returns once its request is found valid. An edit
        without audio goes on from the session's.

        client: a connection that can be lost; its job lives until leave() names it. None: the job
        lives as long as somebody polls it. A job that this one replaces learns so from its next
        report, in whichever gateway it runs. The lease is released when the job ends. Raises
        Problem, and then doesn't keep the lease.
        """
        if asked.audio is None:
            asked = await self._continued(key, asked)
        prepared = await self._edits.prepare(key, asked)
        assert prepared.clip is not None  # the models of jobs have no text-to-music
        record = JobRecord(
            job=secrets.token_hex(8),
            seed=prepared.seed,
            polled=client is None,
            variation=asked.fields.options().get("variation"),
            warnings=prepared.clip.warnings,
        )
        await self._sessions.begin(key, record)
        # The job outlives its request, and so does what it holds.
        prepared = prepared.moved()
        task = asyncio.create_task(self._run(key, prepared, record, api, listener))
        # Known, and so cancelled, only after its first step: a task that is cancelled before that
        # never runs, and couldn't say how it ended.
        await asyncio.sleep(0)
        self._clients[task] = client

        def ended(task: asyncio.Task[None]) -> None:
            del self._clients[task]
            self._stopping.await_fetch()
            lease.release()
            prepared.asked.share.release()

        task.add_done_callback(ended)
        return record

    async def _continued(self, key: SessionKey, asked: Asked) -> Asked:
        audio = await self._sessions.latest(key)
        if audio is None:
            raise Problem(404, f"session_id: {key.name!r} has no audio to edit; send audio_data")
        asked.share.take(len(audio))
        return replace(asked, audio=audio)

    def leave(self, client: str) -> None:
        """Cancels the jobs of a client that has gone."""
        for task, its_client in self._clients.items():
            if its_client == client:
                task.cancel()

    async def close(self) -> None:
        """Cancels all jobs."""
        tasks = list(self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self,
        key: SessionKey,
        prepared: Prepared,
        record: JobRecord,
        api: str,
        listener: Listener,
    ) -> None:
        try:
            await self._follow(key, prepared, record, api, listener)
        except asyncio.CancelledError:
            reason = "cancelled: the client left, or the gateway is stopping"
            await self._fail(key, record, Problem(503, reason, RETRY_SECONDS), listener)
            raise
        except Exception as error:
            await self._fail(key, record, problem_of(error), listener)

    async def _follow(
        self,
        key: SessionKey,
        prepared: Prepared,
        record: JobRecord,
        api: str,
        listener: Listener,
    ) -> None:
        tell = partial(listener.previewed, key)
        events = without_previews(self._edits.run(prepared, api, patient=True), tell)
        async with aclosing(reports(events, record)) as reported:
            async for now, result in reported:
                if result is None:
                    if not await self._reported(key, now):
                        # Or it is replaced, and then nobody is told. Leaving the loop cancels it.
                        reason = "cancelled: the client stopped polling"
                        raise Problem(503, reason, RETRY_SECONDS)
                    await listener.told(key, now)
                elif await self._finished(key, now, prepared.asked.audio, result.audio):
                    await listener.told(key, now)
                    await listener.done(key, now, result.audio)

    async def _reported(self, key: SessionKey, record: JobRecord) -> bool:
        """As the store says it; while that is gone, the edit goes on."""
        try:
            return await self._sessions.report(key, record)
        except Unreachable as gone:
            log.warning("a job's report was not saved", extra={"reason": gone.message})
            return True

    async def _finished(
        self,
        key: SessionKey,
        record: JobRecord,
        original: bytes | None = None,
        result: bytes | None = None,
    ) -> bool:
        """As the store says it, which is waited for: the result is nowhere else."""
        given_up = time.monotonic() + _STORE_SECONDS
        while True:
            try:
                return await self._sessions.finish(key, record, original, result)
            except Unreachable:
                if time.monotonic() > given_up:
                    raise
                await asyncio.sleep(1.0)

    async def _fail(
        self, key: SessionKey, record: JobRecord, problem: Problem, listener: Listener
    ) -> None:
        record = record.failed(problem.message)
        try:
            replaced = not await self._finished(key, record)
        except Problem as lost:
            log.warning("a job's end was not saved", extra={"reason": lost.message})
            replaced = False
        if not replaced:
            await listener.failed(key, record, problem)
