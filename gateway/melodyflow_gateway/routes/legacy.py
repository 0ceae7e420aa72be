"""The old service's HTTP: /transform and /variations."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from melodyflow_client.responses import Result

from ..edits.reports import reports, without_previews
from ..problems import Problem
from ..sessions.store import SessionKey, Standing
from ..shared_folder import INSTEAD
from ..wire.answers import AudioAnswer, FileAnswer, warnings_field
from ..wire.models import (
    PROCESSED,
    SEED_HEADER,
    LoudnessAnswer,
    TransformAnswer,
    Variation,
    Variations,
)
from ..wire.old_requests import TransformForm, TransformRequest
from ..wire.openapi import EDIT, RESULT_HEADERS, body, errors
from ..wire.reading import Asked, read_edit
from ..wire.requests import PATH
from .dependencies import Gateway, Owner, Shared
from .leaving import unless_gone

router = APIRouter(tags=["the old service"])


@router.post(
    "/transform",
    summary="Edit a clip and wait for it",
    description=(
        "JSON gets a JSON answer, a multipart form the file itself. `flowstep`: 0 = most change, "
        "towards 1 = the source is kept. A session (`session_id`) keeps the seed of a clip for its "
        "next edit, and its Socket.IO clients see the progress. Closing the connection cancels the "
        "edit. `audio_file_path` instead of `audio` names a file in the folder that the operator "
        "shares; without one it is refused. With a `duration` instead of `audio` it is "
        "text-to-music."
    ),
    response_model=None,
    responses={
        200: {
            "description": "The edited clip, exactly as long as the original; or the music.",
            "model": TransformAnswer,
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("audio/wav", "audio/flac")
            },
            "headers": RESULT_HEADERS,
        },
        **errors(*EDIT),
    },
    openapi_extra=body(TransformRequest, TransformForm),
)
async def transform(request: Request, gateway: Shared, owner: Owner) -> Response:
    gateway.quota.check(owner)
    asked, is_form = await read_edit(request, gateway.decoding, TransformRequest, TransformForm)
    by_path = asked.audio is None and asked.fields.audio_is_elsewhere
    with gateway.quota.take(owner):
        if by_path:
            asked = await _from_shared_folder(gateway, owner, asked)
        name = asked.fields.session_id
        key = SessionKey(owner, name) if name else None
        if asked.fields.previews and key is None:
            raise Problem(
                400,
                f"previews: {asked.fields.previews}; without a session_id, whose room is told of "
                "them, it must be 0 here; or use POST /transform/stream",
            )
        result = await unless_gone(request, lambda: _edit(gateway, key, asked))
    headers = {SEED_HEADER: str(result.seed)}
    if is_form or (by_path and gateway.settings.shared_answer == "file"):
        return FileAnswer(result.audio, result.warnings, gateway.turnstile, headers)
    rest: dict[str, object] = {"message": PROCESSED, **warnings_field(result.warnings)}
    if result.loudness:  # clients that didn't ask for it get the two fields that they know
        rest["loudness"] = LoudnessAnswer(**result.loudness).model_dump()
    return AudioAnswer(rest, "audio", result.audio, gateway.turnstile, headers)


async def _from_shared_folder(gateway: Gateway, owner: str, asked: Asked) -> Asked:
    if gateway.shared is None:
        raise Problem(400, f"{PATH}: this gateway shares no files; {INSTEAD}")
    gateway.shared.check(owner)
    work = partial(gateway.shared.read, getattr(asked.fields, PATH), asked.share)
    return replace(asked, audio=await gateway.decoding.run(work, asked.share.owner))


async def _edit(gateway: Gateway, key: SessionKey | None, asked: Asked) -> Result:
    prepared = await gateway.edits.prepare(key, asked)
    events = gateway.edits.run(prepared, "transform")
    if key is not None:
        events = without_previews(events, partial(gateway.rooms.previewed, key))
    try:
        async with aclosing(reports(events, Standing())) as reported:
            async for standing, result in reported:
                if key is not None:
                    await gateway.rooms.told(key, standing)
                if result is not None:
                    return result
    finally:
        if key is not None:
            await gateway.rooms.settled(key)
    raise Problem(500, "the edit ended without a result")


@router.get(
    "/variations", summary="The named variations", responses=errors(401), response_model=Variations
)
async def variations(gateway: Shared, owner: Owner) -> Variations:
    return Variations(
        variations={
            name: Variation(
                prompt=preset.prompt,
                flowstep=preset.flowstep,
                steps=preset.steps,
                category=preset.category,
            )
            for name, preset in gateway.client.presets.items()
        }
    )
