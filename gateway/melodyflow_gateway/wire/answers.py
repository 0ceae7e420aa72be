"""JSON answers with audio in them, sent in pieces: many answers share the one audio that they send,
and none is built whole."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .models import WARNINGS_HEADER
from .turnstile import Turnstile

_PIECE = 3 * 2**14  # bytes; of three at a time the base64 of pieces is that of the whole


def warnings_field(warnings: Iterable[str]) -> dict[str, list[str]]:
    """The field of an answer that says what was guessed or repaired; none where nothing was:
    clients of the old service get what they always got."""
    told = list(warnings)
    return {"warnings": told} if told else {}


def warnings_header(warnings: Iterable[str]) -> dict[str, str]:
    """The same for an answer that is a file, in JSON: sentences may hold what headers can't."""
    told = list(warnings)
    return {WARNINGS_HEADER: json.dumps(told)} if told else {}


class AudioAnswer(Response):
    """An object of the fields of `data` and, under `name`, audio in base64.

    sent: is called when all of the audio has been handed over.
    """

    media_type = "application/json"

    def __init__(
        self,
        data: Mapping[str, object],
        name: str,
        audio: bytes,
        turnstile: Turnstile,
        headers: Mapping[str, str] | None = None,
        sent: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._data, self._name, self._audio, self._sent = data, name, audio, sent
        self._turnstile = turnstile
        super().__init__(headers=headers)
        self.headers["Content-Length"] = str(json_length(data, name, audio))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for piece in json_pieces(self._data, self._name, self._audio):
            # Comes back when the client has read most of what was sent before.
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await self._turnstile.wait()  # the network may take megabytes at once
        if self._sent is not None:
            await self._sent()
        await send({"type": "http.response.body", "body": b""})


def json_pieces(data: Mapping[str, object], name: str, audio: bytes) -> Iterator[bytes]:
    """The JSON of an object with audio, piece by piece."""
    head, tail = _around(data, name)
    yield head
    yield from base64_pieces(audio)
    yield tail


def base64_pieces(audio: bytes) -> Iterator[bytes]:
    whole = memoryview(audio)
    for at in range(0, len(audio), _PIECE):
        yield base64.b64encode(whole[at : at + _PIECE])


async def base64_text(audio: bytes) -> str:
    """Audio in base64, whole: for a Socket.IO packet, which has no pieces."""
    return await asyncio.to_thread(lambda: b"".join(base64_pieces(audio)).decode())


def json_length(data: Mapping[str, object], name: str, audio: bytes) -> int:
    """Bytes of the same JSON."""
    head, tail = _around(data, name)
    return len(head) + 4 * -(-len(audio) // 3) + len(tail)


def _around(data: Mapping[str, object], name: str) -> tuple[bytes, bytes]:
    # The audio is first: there may be nothing else.
    return f'{{"{name}": "'.encode(), ('"' + (", " if data else "") + json.dumps(data)[1:]).encode()
