"""POST /transform/stream: an edit as server-sent events.

With a `duration` instead of `audio` it is text-to-music.

The answer is `text/event-stream`. The data of each event is one JSON object:

    queued    session_id, position, estimated_seconds   at once, and when they change; with
              warming (true) while the server is down, for example for a restart
    progress  session_id, progress (0-100), stage, step ([done, total])
    preview   session_id, url, step: where to fetch what the result would be from here, for an edit
              with previews
    result    session_id, audio (base64), variation, prompt, seed, sample_rate, gain_db, info,
              warnings (sentences: what was guessed or repaired in the clip)
    error     error, code (as an HTTP status), retry_after (seconds; where waiting helps)

`queued` lasts until Triton starts the edit. The position counts edits of this gateway only, and
position and time are approximate. It comes again if the server goes down during the edit: the edit
is sent again with the same seed once the server is back, and progress doesn't fall. A comment line
comes after 10 seconds without an event. The last event is `result` or `error`. Closing the
connection cancels the edit. An invalid request gets no events, but an error status and
{"error": ...}.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from melodyflow_client.responses import Progress, Result

from ..door.quota import Lease
from ..edits.edit import Prepared, Waiting
from ..edits.previews import Previewed
from ..problems import Problem
from ..sessions.store import SessionKey, new_session_id
from ..wire.answers import json_pieces
from ..wire.openapi import EDIT, body, errors
from ..wire.reading import read_edit
from ..wire.requests import StreamRequest, StrictFields
from .dependencies import Gateway, Owner, Shared
from .leaving import unless_gone

HEARTBEAT_SECONDS = 10.0

router = APIRouter(tags=["stream"])


# Of one event.
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["queued", "progress", "preview", "result", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}


class _EventStream(StreamingResponse):
    """Server-sent events; releases the lease when they end, even if they never begin."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], lease: Lease) -> None:
        # X-Accel-Buffering: asks a proxy to pass each event on at once.
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self._lease = lease

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._lease:
            await super().__call__(scope, receive, send)


@router.post(
    "/transform/stream",
    summary="Edit a clip, with progress as server-sent events",
    description=(__doc__ or "").partition("\n\n")[2],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events: queued, progress and preview, then result or error.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
        **errors(*EDIT),
    },
    openapi_extra=body(StreamRequest, StrictFields),
)
async def transform_stream(request: Request, gateway: Shared, owner: Owner) -> _EventStream:
    gateway.quota.check(owner)
    asked, _ = await read_edit(request, gateway.decoding, StreamRequest, StrictFields)
    lease = gateway.quota.take(owner)
    try:
        key = SessionKey(owner, asked.fields.session_id or new_session_id())
        prepared = await unless_gone(request, lambda: gateway.edits.prepare(key, asked))
        return _EventStream(_events(gateway, key, prepared), lease)
    except BaseException:
        lease.release()
        raise


async def _events(
    gateway: Gateway, key: SessionKey, prepared: Prepared
) -> AsyncGenerator[bytes, None]:
    sent = time.monotonic()
    try:
        async with aclosing(gateway.edits.run(prepared, "stream")) as events:
            async for event in events:
                if event is not None:
                    for piece in _encode(key.name, event):
                        yield piece
                        await gateway.turnstile.wait()
                elif time.monotonic() - sent >= HEARTBEAT_SECONDS:
                    yield b": still here\n\n"
                else:
                    continue
                sent = time.monotonic()
    except Problem as problem:
        data: dict[str, object] = {"error": problem.message, "code": problem.status}
        if problem.retry_after is not None:
            data["retry_after"] = problem.retry_after
        yield _event("error", data)


def _encode(session_id: str, event: Waiting | Progress | Previewed | Result) -> Iterator[bytes]:
    data: dict[str, object] = {"session_id": session_id}
    if isinstance(event, Waiting):
        data |= {"position": event.position, "estimated_seconds": event.seconds}
        if event.warming:
            data["warming"] = True
        yield _event("queued", data)
        return
    if isinstance(event, Progress):
        data |= {
            "progress": round(100 * event.progress, 2),
            "stage": event.stage,
            "step": [event.step, event.total],
        }
        yield _event("progress", data)
        return
    if isinstance(event, Previewed):
        yield _event("preview", data | event.data)
        return
    data |= {
        "variation": event.variation,
        "prompt": event.info.get("parameters", {}).get("prompt"),
        "seed": event.seed,
        "sample_rate": event.sample_rate,
        "gain_db": event.gain_db,
        "info": dict(event.info),
        "warnings": list(event.warnings),
    }
    yield b"event: result\ndata: "
    yield from json_pieces(data, "audio", event.audio)
    yield b"\n\n"


def _event(name: str, data: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
