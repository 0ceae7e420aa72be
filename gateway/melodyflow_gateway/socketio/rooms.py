"""Rooms: what the clients of a session are told."""

from __future__ import annotations

from typing import Any

import socketio

from ..edits.previews import Previewed
from ..problems import Problem
from ..sessions.store import JobRecord, SessionKey, Standing
from ..wire.answers import warnings_field
from .gary import GaryEvents
from .payloads import error_data, event_of
from .redis_rooms import RedisRooms, emit_audio


class Rooms:
    """Tells the clients in a session's room; a Listener of its jobs.

    shared: the way to clients of other gateways; None where this is the only one. gary: the way to
    back ends that read progress in Redis; None where there are none.
    """

    def __init__(
        self,
        server: socketio.AsyncServer,
        shared: RedisRooms | None,
        gary: GaryEvents | None = None,
    ) -> None:
        self._server, self._shared, self._gary = server, shared, gary

    @staticmethod
    def name(key: SessionKey) -> str:
        return f"{key.owner}/{key.name}"

    async def told(self, key: SessionKey, standing: Standing) -> None:
        if self._gary is not None:
            self._gary.tell(key.name, standing)
        event, data = event_of(standing)
        await self._emit(event, key, data)

    async def settled(self, key: SessionKey) -> None:
        """Returns when those outside have heard what was told, as far as they are there."""
        if self._gary is not None:
            await self._gary.settle(key.name)

    async def previewed(self, key: SessionKey, previewed: Previewed) -> None:
        # Not to clients of other gateways, which couldn't fetch it there.
        await self._emit("preview", key, previewed.data, ignore_queue=True)

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

    async def close(self) -> None:
        """Closes its connections."""
        if self._gary is not None:
            await self._gary.close()

    async def _emit_audio(
        self, event: str, key: SessionKey, data: dict[str, Any], audio: bytes, job: str | None
    ) -> None:
        """job: whose result the sessions keep; None: they keep the audio as the original."""
        room, data = self.name(key), {**data, "session_id": key.name}
        if self._shared is not None:
            await self._shared.tell_others(event, room, data, key, job)
        await emit_audio(self._server, event, room, data, audio)

    async def _emit(self, event: str, key: SessionKey, data: dict[str, Any], **how: Any) -> None:
        data = {**data, "session_id": key.name}
        await self._server.emit(event, data, room=self.name(key), **how)
