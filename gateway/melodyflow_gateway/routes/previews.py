"""GET /preview/{name}/{step}: what an edit is going to be."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from ..problems import Problem
from ..wire.openapi import errors
from .dependencies import Owner, Shared

router = APIRouter(tags=["stream"])


@router.get(
    "/preview/{name}/{step}",
    summary="Fetch a preview",
    description=(
        "The preview that a `preview` event told of: a FLAC file as long as the result. Only the "
        "newest one of an edit is there, until a minute after the edit, and at the gateway that "
        "runs it."
    ),
    response_class=Response,
    responses={
        200: {
            "description": "The preview.",
            "content": {"audio/flac": {"schema": {"type": "string", "format": "binary"}}},
        },
        **errors(400, 401, 404),
    },
)
async def preview(name: str, step: int, gateway: Shared, _: Owner) -> Response:
    audio = gateway.previews.find(name, step)
    if audio is None:
        raise Problem(404, f"preview: none of step {step} here; only an edit's newest one is kept")
    return Response(audio, media_type="audio/flac", headers={"Cache-Control": "no-store"})
