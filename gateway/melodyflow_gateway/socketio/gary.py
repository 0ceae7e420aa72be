"""What the back ends of the gary tool chain read of an edit in Redis: two keys of its session, in
database 0, and Socket.IO events on Flask-SocketIO's queue, for the session's room."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import Any

import socketio
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..sessions.store import Standing
from .payloads import event_of

_CHANNEL = "flask-socketio"  # as Flask-SocketIO calls it unless told otherwise
_KEPT_SECONDS = 3600
_WRITE_SECONDS = 1.0  # in which Redis takes what is written

log = logging.getLogger(__name__)


class GaryEvents:
    """Writes behind the edits, in a task of its own: of each session the newest. What a slow Redis,
    or one that is gone, doesn't take is dropped; no edit waits for it longer than a second."""

    def __init__(self, url: str) -> None:
        times = {"socket_timeout": _WRITE_SECONDS, "socket_connect_timeout": _WRITE_SECONDS}
        again = Retry(NoBackoff(), 1)  # on a new connection: Redis may have been restarted
        options: dict[str, Any] = {**parse_url(url), **times, "db": 0, "retry": again}
        self._redis = Redis.from_pool(ConnectionPool(**options))
        self._queue = socketio.AsyncRedisManager(
            url, channel=_CHANNEL, write_only=True, logger=log, redis_options=times
        )
        self._newest: dict[str, Standing] = {}  # by session, the one told longest ago first
        self._task: asyncio.Task[None] | None = None
        self._writing: str | None = None  # the session
        self._failed = False

    def tell(self, session: str, standing: Standing) -> None:
        """How far an edit is; returns at once."""
        self._newest[session] = standing
        self._start()

    async def settle(self, session: str) -> None:
        """Returns when nothing more will be written of what was told of a session, at the latest
        after a second. Then its back end may write how the edit ended."""
        if self._task is not None and (session in self._newest or session == self._writing):
            await asyncio.wait({self._task}, timeout=_WRITE_SECONDS)
        self._newest.pop(session, None)
        if self._task is not None and session == self._writing:
            await self._stop()
            self._start()

    async def close(self) -> None:
        """Drops what isn't written, and closes connections."""
        self._newest.clear()
        await self._stop()
        await self._redis.aclose()
        if self._queue.redis is not None:
            await self._queue.redis.aclose()

    def _start(self) -> None:
        if self._newest and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._write_all())

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _write_all(self) -> None:
        try:
            while self._newest:
                self._writing = next(iter(self._newest))
                await self._try(self._writing, self._newest.pop(self._writing))
        finally:
            self._writing = None

    async def _try(self, session: str, standing: Standing) -> None:
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await self._write(session, standing)
        except (RedisError, OSError) as error:
            if not self._failed:  # said once for each outage
                reason = str(error) or type(error).__name__
                log.error("progress can't be written to Redis", extra={"reason": reason})
            self._failed = True
        else:
            self._failed = False

    async def _write(self, session: str, standing: Standing) -> None:
        waits = standing.status in ("queued", "warming")
        status = {"status": "warming" if waits else "processing", "timestamp": time.time()}
        async with self._redis.pipeline(transaction=True) as both:
            both.set(f"progress:{session}", int(standing.progress), ex=_KEPT_SECONDS)
            both.set(f"status:{session}", json.dumps(status), ex=_KEPT_SECONDS)
            await both.execute()
        event, data = event_of(standing)
        await self._queue.emit(event, {**data, "session_id": session}, room=session)
