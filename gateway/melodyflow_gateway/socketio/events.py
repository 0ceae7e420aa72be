"""Socket.IO, namespace "/": the events of the old service, each to the room of its session."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import socketio
from socketio.exceptions import ConnectionRefusedError
from starlette.datastructures import Headers

from ..door.quota import Quota
from ..door.tokens import Tokens
from ..edits.jobs import Jobs
from ..metrics import Metrics
from ..problems import Problem, problem_of
from ..sessions.store import JobState, SessionKey, SessionStore, new_session_id
from ..wire.models import AudioDataRequest, SessionRequest
from ..wire.reading import parse, parse_edit
from ..wire.status_text import estimated_time, message
from .redis_rooms import Fleet, emit_audio, error_data

log = logging.getLogger(__name__)

_SOCKETS = 64  # of one owner


class Rooms:
    """Tells the clients in a session's room; a Listener of its jobs. fleet: other gateways."""

    def __init__(self, server: socketio.AsyncServer, fleet: Fleet | None) -> None:
        self._server, self._fleet = server, fleet

    @staticmethod
    def name(key: SessionKey) -> str:
        return f"{key.owner}/{key.name}"

    async def told(self, key: SessionKey, state: JobState) -> None:
        if state.status in ("queued", "warming"):
            await self._emit("queue_status", key, queue_status(state))
        else:
            await self._emit("progress_update", key, {"progress": round(state.progress, 2)})

    async def done(self, key: SessionKey, state: JobState, audio: bytes) -> None:
        data = {"variation": state.variation, "seed": state.seed}
        await self._emit_audio("audio_transformed", key, data, audio, job=state.job)

    async def failed(self, key: SessionKey, state: JobState, problem: Problem) -> None:
        await self._emit("error", key, error_data(problem))

    async def undone(self, key: SessionKey, audio: bytes) -> None:
        """A client has its original back."""
        await self._emit_audio("transform_undone", key, {}, audio, job=None)

    async def _emit_audio(
        self, event: str, key: SessionKey, data: dict[str, Any], audio: bytes, job: str | None
    ) -> None:
        """job: of the result that the sessions keep; None: they keep the audio as the original."""
        room, data = self.name(key), {**data, "session_id": key.name}
        if self._fleet is not None:
            await self._fleet.tell_others(event, room, data, key, job)
        await emit_audio(self._server, event, room, data, audio)

    async def _emit(self, event: str, key: SessionKey, data: dict[str, Any]) -> None:
        await self._server.emit(event, {**data, "session_id": key.name}, room=self.name(key))


def queue_status(state: JobState) -> dict[str, Any]:
    """The event's data; position and time are approximate."""
    return {
        "status": state.status,
        "message": message(state),
        "position": state.position,
        "total_queued": state.total,
        "estimated_time": estimated_time(state),
        "estimated_seconds": state.estimated_seconds,
    }


class TextPacket(socketio.packet.Packet):  # type: ignore[misc]
    """A packet without binary attachments, of which one event could have any number, each as large
    as a message may be. Audio comes in base64; who sends it otherwise finds a placeholder read."""

    packet_type: int

    def decode(self, encoded_packet: str | bytes) -> int:
        if not isinstance(encoded_packet, str):
            raise ValueError("binary attachments are not taken")
        super().decode(encoded_packet)
        if self.packet_type in (socketio.packet.BINARY_EVENT, socketio.packet.BINARY_ACK):
            self.packet_type = socketio.packet.EVENT
        return 0


class Events(socketio.AsyncNamespace):  # type: ignore[misc]  # published without types
    """What clients send."""

    def __init__(
        self,
        rooms: Rooms,
        jobs: Jobs,
        sessions: SessionStore,
        tokens: Tokens,
        quota: Quota,
        metrics: Metrics,
    ) -> None:
        super().__init__("/")
        self._rooms, self._jobs, self._sessions = rooms, jobs, sessions
        self._tokens, self._quota, self._metrics = tokens, quota, metrics
        self._owners: dict[str, str] = {}

    async def on_connect(self, sid: str, environ: dict[str, Any], _: object = None) -> None:
        owner = self._tokens.owner(Headers(scope=environ["asgi.scope"]))
        if Counter(self._owners.values())[owner] >= _SOCKETS:
            self._metrics.count_refusal(429)
            raise ConnectionRefusedError(f"too many open connections ({_SOCKETS})")
        self._owners[sid] = owner
        self._metrics.sockets.set(len(self._owners))

    async def on_disconnect(self, sid: str, *_: object) -> None:
        self._owners.pop(sid, None)
        self._metrics.sockets.set(len(self._owners))
        self._jobs.leave(sid)

    async def on_transform_audio_request(self, sid: str, data: object = None) -> None:
        owner, name = self._owners[sid], _named(data)
        try:
            lease = self._quota.take(owner)
            try:
                asked = await asyncio.to_thread(
                    parse_edit, _object(data), AudioDataRequest, "audio_data"
                )
                key = SessionKey(owner, asked.fields.session_id or new_session_id())
                name = key.name
                await self.enter_room(sid, self._rooms.name(key))
                await self.emit("transform_audio_received", {"session_id": name}, to=sid)
                await self._jobs.start(
                    key, asked, lease, api="socketio", listener=self._rooms, client=sid
                )
            except BaseException:
                lease.release()
                raise
            if sid not in self._owners:  # it has left meanwhile
                self._jobs.leave(sid)
        except Exception as error:
            await self._complain(sid, name, problem_of(error))

    async def on_undo_transform_request(self, sid: str, data: object = None) -> None:
        name = _named(data)
        try:
            key = SessionKey(self._owners[sid], parse(_object(data), SessionRequest).session_id)
            original = await self._sessions.original(key)
            if original is None:
                raise Problem(404, f"session_id: {key.name!r}; nothing to undo there")
            await self.enter_room(sid, self._rooms.name(key))
            await self._rooms.undone(key, original)
        except Exception as error:
            await self._complain(sid, name, problem_of(error))

    async def _complain(self, sid: str, name: str | None, problem: Problem) -> None:
        self._metrics.count_refusal(problem.status)
        await self.emit("error", {**error_data(problem), "session_id": name}, to=sid)


def _object(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise Problem(400, "data: an object is expected")
    return data


def _named(data: object) -> str | None:
    name = data.get("session_id") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None
