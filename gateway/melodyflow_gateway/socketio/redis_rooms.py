"""Rooms whose clients are at several gateways, which share one Redis."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import socketio

from ..problems import Problem
from ..sessions.store import SessionKey, SessionStore
from ..wire.answers import base64_text
from .payloads import error_data

_PUBLISH_SECONDS = 1.0

log = logging.getLogger(__name__)


class RedisRooms(socketio.AsyncRedisManager):  # type: ignore[misc]  # published without types
    """Passes events on to the other gateways, but not the bytes of audio.

    Redis disconnects a subscriber with 32 MiB of unread messages (client-output-buffer-limit), and
    a clip of two minutes is larger. So an event with audio is published without it, and each
    gateway with clients in the room reads the audio from the sessions.
    """

    def __init__(self, url: str, sessions: SessionStore) -> None:
        super().__init__(url, channel="melodyflow:events", logger=log)
        self._sessions = sessions

    async def tell_others(
        self, event: str, room: str, data: dict[str, Any], key: SessionKey, job: str | None
    ) -> None:
        """Lets the other gateways emit an event with audio that the session keeps: the result of
        `job`, or for None the original."""
        kept = {"owner": key.owner, "name": key.name, "job": job}
        message = {"method": "emit", "event": event, "room": room, "data": data, "kept": kept}
        await self._publish({**message, "host_id": self.host_id})

    async def _publish(self, data: dict[str, Any]) -> None:
        """Without waiting for a Redis that hangs: the library does so without end."""
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await super()._publish(data)
        except TimeoutError:
            log.error("an event was not published: Redis doesn't answer")

    async def _handle_emit(self, message: dict[str, Any]) -> None:
        """The library calls this for an event that comes through Redis or goes there."""
        kept = message.get("kept")
        if kept is None:
            await super()._handle_emit(message)
            return
        room, data = message["room"], message["data"]
        if not any(self.get_participants("/", room)):
            return
        try:
            audio = await self._audio(SessionKey(kept["owner"], kept["name"]), kept["job"])
        except Problem as problem:
            data = {**error_data(problem), "session_id": data["session_id"]}
            await self.server.emit("error", data, room=room, ignore_queue=True)
            return
        if audio is not None:
            await emit_audio(self.server, message["event"], room, data, audio)

    async def _audio(self, key: SessionKey, job: str | None) -> bytes | None:
        """None: a newer job has replaced this one. Raises Problem."""
        if job is None:
            audio = await self._sessions.original(key)
        else:
            record, audio = await self._sessions.poll(key) or (None, None)
            if record is not None and record.job != job:
                return None
        if audio is None:
            raise Problem(500, "the audio is no longer kept")
        return audio


async def emit_audio(
    server: socketio.AsyncServer, event: str, room: str, data: dict[str, Any], audio: bytes
) -> None:
    """Emits an event with its audio to this gateway's own clients."""
    if any(server.manager.get_participants("/", room)):
        data = {"audio_data": await base64_text(audio), **data}
        await server.emit(event, data, room=room, ignore_queue=True)
