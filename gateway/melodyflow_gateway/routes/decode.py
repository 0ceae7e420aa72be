"""POST /decode: a file as the server gets it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..wire.answers import warnings_header
from ..wire.openapi import DECODE, WARNINGS_HEADER_DOC, errors, file_body
from ..wire.reading import read_file, share_of
from ..wire.requests import FileAlone
from .dependencies import Owner, Shared

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
        clip = await gateway.edits.decode(file, share_of(request))
    kind = "flac" if clip.data.startswith(b"fLaC") else "wav"
    return Response(clip.data, media_type=f"audio/{kind}", headers=warnings_header(clip.warnings))
