"""POST /decode: a file as the server gets it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..wire.answers import FileAnswer
from ..wire.openapi import DECODE, WARNINGS_HEADER_DOC, errors, file_body
from ..wire.reading import read_file, share_of
from ..wire.requests import FileAlone
from .dependencies import Owner, Shared
from .leaving import unless_gone

router = APIRouter(tags=["clips"])


@router.post(
    "/decode",
    summary="Decode a clip",
    description=(
        "The clip that an edit of the file would send to the server, sample by sample what the "
        "result is compared with: a WAV or FLAC that the server reads comes back as it is, "
        "anything else (MP3, M4A, AIFF, the sound of a video, more than two channels) as WAV. "
        "Counts as an edit against a token's limits."
    ),
    response_class=Response,
    responses={
        200: {
            "description": "The clip.",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("audio/wav", "audio/flac")
            },
            "headers": WARNINGS_HEADER_DOC,
        },
        **errors(*DECODE),
    },
    openapi_extra=file_body(FileAlone),
)
async def decode(request: Request, gateway: Shared, owner: Owner) -> Response:
    gateway.quota.check(owner)
    file = await read_file(request)
    with gateway.quota.take(owner):
        share = share_of(request)
        clip = await unless_gone(request, lambda: gateway.edits.decode(file, share))
    return FileAnswer(clip.data, clip.warnings, gateway.turnstile)
