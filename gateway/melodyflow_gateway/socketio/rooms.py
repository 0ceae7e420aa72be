"""Rooms: what the clients of a session are told."""

from __future__ import annotations

from typing import Any

import socketio

from ..problems import Problem
from ..sessions.store import JobRecord, SessionKey, Standing
from ..wire.answers import warnings_field
from .payloads import error_data, queue_status
from .redis_rooms import RedisRooms, emit_audio


class Rooms:
    """Tells the clients in a session's room; a Listener of its jobs.

    shared: the way to clients of other gateways; None where this is the only one.
    """

    def __init__(self, server: socketio.AsyncServer, shared: RedisRooms | None) -> None:
        self._server, self._shared = server, shared

    @staticmethod
    def name(key: SessionKey) -> str:
        return f"{key.owner}/{key.name}"

    async def told(self, key: SessionKey, standing: Standing) -> None:
        if standing.status in ("queued", "warming"):
            await self._emit("queue_status", key, queue_status(standing))
        else:
            await self._emit("progress_update", key, {"progress": round(standing.progress, 2)})

    async def done(self, key: SessionKey, record: JobRecord, audio: bytes) -> None:
        data = {
            "variation": record.variation,
            "seed": record.seed,
            **warnings_field(record.warnings),
        }
        await self._emit_audio("audio_transformed", key, data, audio, job=record.job)

    async def failed(self, key: SessionKey, record: JobRecord, problem: Problem) -> None:
        await self._emit("error", key, error_data(problem))

    async def undone(self, key: SessionKey, audio: bytes) -> None:
        """A client has its original back."""
        await self._emit_audio("transform_undone", key, {}, audio, job=None)

    async def _emit_audio(
        self, event: str, key: SessionKey, data: dict[str, Any], audio: bytes, job: str | None
    ) -> None:
        """job: whose result the sessions keep; None: they keep the audio as the original."""
        room, data = self.name(key), {**data, "session_id": key.name}
        if self._shared is not None:
            await self._shared.tell_others(event, room, data, key, job)
        await emit_audio(self._server, event, room, data, audio)

    async def _emit(self, event: str, key: SessionKey, data: dict[str, Any]) -> None:
        await self._server.emit(event, {**data, "session_id": key.name}, room=self.name(key))
