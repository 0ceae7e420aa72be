"""Socket.IO, namespace "/": the events of the old service, each to the room of its session."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import Counter, defaultdict
from typing import Any

import socketio
from socketio.exceptions import ConnectionRefusedError
from starlette.datastructures import Headers

from .access import Access
from .jobs import Jobs
from .limits import Limits
from .metrics import Metrics
from .models import AudioDataRequest, SessionRequest
from .problems import Problem, problem_of
from .reading import parse, parse_edit
from .sessions import JobState, SessionKey, SessionStore, new_session_id
from .wording import estimated_time, message

log = logging.getLogger(__name__)

_SOCKETS = 64  # of one owner


class Rooms:
    """Tells the clients in a session's room; a Listener of its jobs."""

    def __init__(self, server: socketio.AsyncServer) -> None:
        self._server = server

    @staticmethod
    def name(key: SessionKey) -> str:
        return f"{key.owner}/{key.name}"

    async def told(self, key: SessionKey, state: JobState) -> None:
        if state.status in ("queued", "warming"):
            await self._emit("queue_status", key, queue_status(state))
        else:
            await self._emit("progress_update", key, {"progress": round(state.progress, 2)})

    async def done(self, key: SessionKey, state: JobState, audio: bytes) -> None:
        data = {"audio_data": base64.b64encode(audio).decode(), "variation": state.variation}
        await self._emit("audio_transformed", key, data)

    async def failed(self, key: SessionKey, state: JobState, problem: Problem) -> None:
        await self._emit("error", key, {"message": problem.message, "code": problem.status})

    async def undone(self, key: SessionKey, audio: bytes) -> None:
        """A client has its original back."""
        await self._emit("transform_undone", key, {"audio_data": base64.b64encode(audio).decode()})

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


class Events(socketio.AsyncNamespace):  # type: ignore[misc]  # published without types
    """What clients send."""

    def __init__(
        self,
        rooms: Rooms,
        jobs: Jobs,
        sessions: SessionStore,
        access: Access,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        super().__init__("/")
        self._rooms, self._jobs, self._sessions = rooms, jobs, sessions
        self._access, self._limits, self._metrics = access, limits, metrics
        self._owners: dict[str, str] = {}
        self._running: defaultdict[str, dict[str, str]] = defaultdict(dict)  # sid: session: job

    async def on_connect(self, sid: str, environ: dict[str, Any], _: object = None) -> None:
        owner = self._access.owner(Headers(scope=environ["asgi.scope"]))  # the guard has let it in
        if Counter(self._owners.values())[owner] >= _SOCKETS:
            self._metrics.refused.labels("limit").inc()
            raise ConnectionRefusedError(f"{_SOCKETS} connections of yours are open already")
        self._owners[sid] = owner
        self._metrics.sockets.set(len(self._owners))

    async def on_disconnect(self, sid: str, *_: object) -> None:
        self._owners.pop(sid, None)
        self._metrics.sockets.set(len(self._owners))
        for job in self._running.pop(sid, {}).values():
            self._jobs.cancel(job)

    async def on_transform_audio_request(self, sid: str, data: object = None) -> None:
        owner, name = self._owners[sid], _named(data)
        try:
            lease = self._limits.take(owner)
            try:
                asked = await asyncio.to_thread(
                    parse_edit, _object(data), AudioDataRequest, "audio_data"
                )
                key = SessionKey(owner, asked.fields.session_id or new_session_id())
                name = key.name
                await self.enter_room(sid, self._rooms.name(key))
                await self.emit("transform_audio_received", {"session_id": name}, to=sid)
                state = await self._jobs.start(
                    key, asked, lease, api="socketio", listener=self._rooms
                )
            except BaseException:
                lease.release()
                raise
            if sid in self._owners:
                self._running[sid][name] = state.job
            else:  # it has left meanwhile
                self._jobs.cancel(state.job)
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
        if problem.status == 429:
            self._metrics.refused.labels("limit").inc()
        data: dict[str, object] = {
            "message": problem.message,
            "session_id": name,
            "code": problem.status,
        }
        if problem.retry_after is not None:
            data["retry_after"] = problem.retry_after
        await self.emit("error", data, to=sid)


def _object(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise Problem(400, "data: an object is expected")
    return data


def _named(data: object) -> str | None:
    name = data.get("session_id") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None
