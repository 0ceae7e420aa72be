"""Socket.IO, namespace "/": the events that clients send."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import socketio
from socketio.exceptions import ConnectionRefusedError

from ..budget import Budget
from ..decoding import Decoding
from ..door.body_budget import holder
from ..door.owners import Owners
from ..door.quota import Quota
from ..edits.jobs import Jobs
from ..metrics import Metrics
from ..problems import CLIENT_GONE, Problem, problem_of
from ..sessions.store import SessionKey, SessionStore, new_session_id
from ..text import short
from ..wire.old_requests import AudioDataRequest
from ..wire.reading import parse, parse_edit
from ..wire.requests import SessionRequest
from .packets import AUDIO, EVENTS, RESERVED
from .payloads import error_data, event_of
from .rooms import Rooms

_SOCKETS = 64  # of one owner
_NO_SUCH_EVENT = f"no event of this service; it takes {', '.join(EVENTS)}"


class EditNamespace(socketio.AsyncNamespace):  # type: ignore[misc]  # published without types
    """The old service's events; each method is one. Answers go to the room of the session."""

    def __init__(
        self,
        rooms: Rooms,
        jobs: Jobs,
        sessions: SessionStore,
        owners: Owners,
        quota: Quota,
        metrics: Metrics,
        budget: Budget,
        decoding: Decoding,
    ) -> None:
        super().__init__("/")
        self._rooms, self._jobs, self._sessions = rooms, jobs, sessions
        self._known, self._quota, self._metrics = owners, quota, metrics
        self._budget, self._decoding = budget, decoding
        self._owners: dict[str, str] = {}
        self._holders: dict[str, str] = {}

    async def on_connect(self, sid: str, environ: dict[str, Any], _: object = None) -> None:
        scope = environ["asgi.scope"]
        owner = await self._known.of(scope)
        held_by = await holder(scope, self._known)
        if Counter(self._owners.values())[owner] >= _SOCKETS:
            self._metrics.count_refusal(429)
            raise ConnectionRefusedError(f"too many open connections ({_SOCKETS})")
        self._owners[sid] = owner
        self._holders[sid] = held_by
        self._metrics.sockets.set(len(self._owners))

    async def on_disconnect(self, sid: str, *_: object) -> None:
        self._owners.pop(sid, None)
        self._holders.pop(sid, None)
        self._metrics.sockets.set(len(self._owners))
        self._jobs.leave(sid)

    async def trigger_event(self, event: str, sid: str, *args: object) -> Any:
        """Hands on what it knows, with a session's name as it was meant."""
        args = tuple(_plain(arg) for arg in args)
        if event in EVENTS or event in RESERVED:
            return await super().trigger_event(event, sid, *args)
        if sid in self._owners:
            name = _named(args[0]) if args else None
            await self._complain(sid, name, Problem(404, f"{short(event)}: {_NO_SUCH_EVENT}"))
        return None

    async def on_transform_audio_request(self, sid: str, data: object = None) -> None:
        if sid not in self._owners:  # its client has left
            return
        owner, name = self._owners[sid], _named(data)
        try:
            lease = self._quota.take(owner)
            share = self._budget.share(self._holders[sid])
            try:
                share.take(_size(data))
                work = partial(parse_edit, _object(data), AudioDataRequest, AUDIO, share)
                asked = await self._decoding.run(work, share.owner)
                key = SessionKey(owner, asked.fields.session_id or new_session_id())
                name = key.name
                await self._enter(sid, key)
                await self.emit("transform_audio_received", {"session_id": name}, to=sid)
                await self._jobs.start(
                    key, asked, lease, api="socketio", listener=self._rooms, client=sid
                )
            except BaseException:
                lease.release()
                raise
            finally:
                share.release()  # of what the job has not taken over
            if sid not in self._owners:  # its client left meanwhile
                self._jobs.leave(sid)
        except Exception as error:
            await self._complain(sid, name, problem_of(error))

    async def on_undo_transform_request(self, sid: str, data: object = None) -> None:
        if sid not in self._owners:
            return
        name, held_by = _named(data), self._holders[sid]
        try:
            key = SessionKey(self._owners[sid], parse(_object(data), SessionRequest).session_id)
            original = await self._sessions.undo(key)
            if original is None:
                raise Problem(404, f"session_id: {key.name!r} has nothing to undo")
            await self._enter(sid, key)
            async with self._decoding.turn(held_by):  # one answer of an owner at a time
                await self._rooms.undone(key, original)
        except Exception as error:
            await self._complain(sid, name, problem_of(error))

    async def on_request_progress_status(self, sid: str, data: object = None) -> None:
        """Asked by who has heard nothing for a while, also long after an edit; old clients take any
        answer but progress for a failure of the edit, so that there is none where nothing runs."""
        if sid not in self._owners:
            return
        name = _named(data)
        try:
            key = SessionKey(self._owners[sid], parse(_object(data), SessionRequest).session_id)
            record, _ = await self._sessions.poll(key) or (None, None)
            if record is not None and record.running:
                event, told = event_of(record)
                await self.emit(event, {**told, "session_id": key.name}, to=sid)
        except Exception as error:
            await self._complain(sid, name, problem_of(error))

    async def _enter(self, sid: str, key: SessionKey) -> None:
        """Raises Problem where its client has left meanwhile, for the library would."""
        if sid not in self._owners:
            raise Problem(CLIENT_GONE, "the client has left")
        await self.enter_room(sid, self._rooms.name(key))

    async def _complain(self, sid: str, name: str | None, problem: Problem) -> None:
        self._metrics.count_refusal(problem.status)
        await self.emit("error", {**error_data(problem), "session_id": name}, to=sid)


def _plain(data: object) -> object:
    """An event's data, its session's name without the backslashes and blanks that some clients
    leave around it."""
    name = _named(data)
    if not isinstance(data, dict) or name is None:
        return data
    return {**data, "session_id": name.replace("\\", "").strip()}


def _object(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise Problem(400, "data: expected an object, or one as JSON in a string")
    return data


def _size(data: object) -> int:
    """Bytes of an event's audio, and of the message that it lies in."""
    audio = data.get(AUDIO) if isinstance(data, dict) else None
    return 2 * len(audio) if isinstance(audio, memoryview) else 0


def _named(data: object) -> str | None:
    name = data.get("session_id") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None
