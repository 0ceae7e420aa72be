"""The VST's HTTP: start an edit, poll it, undo it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from ..door.head import is_head
from ..problems import Problem
from ..sessions.store import JobRecord, SessionKey, new_session_id
from ..wire.answers import AudioAnswer, warnings_field
from ..wire.models import (
    SESSION_ID,
    JuceError,
    JuceStarted,
    JuceStatus,
    JuceUndone,
    QueueStatus,
)
from ..wire.old_requests import AudioDataRequest
from ..wire.openapi import EDIT, body, errors
from ..wire.reading import read_edit, read_fields
from ..wire.requests import SessionRequest
from ..wire.status_text import estimated_time, message
from .dependencies import Owner, Shared

PREFIX = "/api/juce"

router = APIRouter(prefix=PREFIX, tags=["VST"])


@router.post(
    "/transform_audio",
    summary="Start an edit",
    description=(
        "The edit runs in the background; poll it with poll_status. A session has one such edit at "
        "a time: a new one replaces it. Without `audio_data` it edits the session's last result. "
        "An edit that nobody polls for a while (15 minutes by default) is cancelled. "
        "`flowstep`: 0 = most change, towards 1 = the source is kept."
    ),
    response_model=JuceStarted,
    responses=errors(*EDIT, model=JuceError),
    openapi_extra=body(AudioDataRequest),
)
async def transform_audio(request: Request, gateway: Shared, owner: Owner) -> JuceStarted:
    gateway.quota.check(owner)
    asked, _ = await read_edit(
        request, gateway.decoding, AudioDataRequest, None, audio="audio_data"
    )
    lease = gateway.quota.take(owner)
    try:
        key = SessionKey(owner, asked.fields.session_id or new_session_id())
        record = await gateway.jobs.start(key, asked, lease, api="juce", listener=gateway.rooms)
    except BaseException:
        lease.release()
        raise
    return JuceStarted(session_id=key.name, seed=record.seed, message="the edit has started")


@router.get(
    "/poll_status/{session_id}",
    summary="Poll an edit",
    description=(
        "`status` is `warming` while the server is down or loading. The position counts edits of "
        "this gateway only; position and time are approximate. `audio_data` comes with "
        "`completed`, at every poll until the session expires; with `consume` the result is "
        "dropped once it has been sent."
    ),
    response_model=JuceStatus,
    response_model_exclude_none=True,
    responses=errors(400, 401, 404, 500, 503, model=JuceError),
)
async def poll_status(
    session_id: Annotated[str, Path(pattern=SESSION_ID)],
    request: Request,
    gateway: Shared,
    owner: Owner,
    consume: bool = False,
) -> Response:
    key = SessionKey(owner, session_id)
    found = await gateway.sessions.poll(key)
    if found is None:
        unknown = JuceError(status="unknown", error=f"session_id: {session_id!r} is unknown")
        return JSONResponse(unknown.model_dump(), 404)
    record, audio = found
    answer = JuceStatus(
        status=record.status,
        progress=record.progress,
        queue_status=_queue_status(record),
        transform_in_progress=record.running,
        seed=record.seed,
        error=record.error,
    ).model_dump(exclude_none=True)
    if audio is None:
        return JSONResponse(answer)

    async def drop() -> None:
        if not is_head(request.scope) and not await request.is_disconnected():
            await gateway.sessions.consume(key, record.job)

    rest = {**answer, **warnings_field(record.warnings)}
    return AudioAnswer(rest, "audio_data", audio, gateway.turnstile, sent=drop if consume else None)


@router.post(
    "/undo_transform",
    summary="Undo an edit",
    response_model=JuceUndone,
    responses=errors(400, 401, 404, 413, 500, 503, model=JuceError),
    openapi_extra=body(SessionRequest),
)
async def undo_transform(request: Request, gateway: Shared, owner: Owner) -> Response:
    asked = await read_fields(request, SessionRequest)
    original = await gateway.sessions.undo(SessionKey(owner, asked.session_id))
    if original is None:
        raise Problem(404, f"session_id: {asked.session_id!r} has nothing to undo")
    rest = {"success": True, "message": "the audio before the edit"}
    return AudioAnswer(rest, "audio_data", original, gateway.turnstile)


def _queue_status(record: JobRecord) -> QueueStatus:
    return QueueStatus(
        status=record.status,
        message=message(record),
        position=record.position,
        estimated_time=estimated_time(record),
        estimated_seconds=record.estimated_seconds,
    )
