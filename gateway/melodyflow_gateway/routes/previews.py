"""GET /preview/{name}/{step}: what an edit is going to be."""

from __future__ import annotations

import json

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from ..problems import Problem
from ..wire.models import INFO_HEADER
from ..wire.openapi import errors
from .dependencies import Owner, Shared

router = APIRouter(tags=["stream"])


@router.get(
    "/preview/{name}/{step}",
    summary="Fetch a preview",
    description=(
        "The preview that a `preview` event told of: a FLAC file as long as the result. Only the "
        "newest one of an edit is there, until a minute after the edit, and at the gateway that "
        "runs it. The addresses of older ones lead on to it."
    ),
    response_class=Response,
    responses={
        200: {
            "description": "The preview.",
            "content": {"audio/flac": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                INFO_HEADER: {
                    "description": "JSON: `clip_lufs` and `result_lufs`, as in the result's info.",
                    "schema": {"type": "string"},
                }
            },
        },
        307: {"description": "There is a newer one, at `Location`."},
        **errors(400, 401, 404),
    },
)
async def preview(name: str, step: int, gateway: Shared, _: Owner) -> Response:
    newest = gateway.previews.find(name, step)
    if newest is None or step < 0:
        raise Problem(404, f"preview: none of step {step} here; only an edit's newest one is kept")
    fresh = {"Cache-Control": "no-store"}
    if newest.step > step:  # relative: a proxy may serve the gateway below a path
        return RedirectResponse(str(newest.step), headers=fresh)
    info = {INFO_HEADER: json.dumps(dict(newest.info))}
    return Response(newest.audio, media_type="audio/flac", headers=fresh | info)
