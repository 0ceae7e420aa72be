"""Answers with audio, sent in pieces: many answers share the one audio that they send, and none is
built whole."""

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


class _InPieces(Response):
    """sent: is called when all of the pieces have been handed over."""

    def __init__(
        self,
        pieces: Iterator[bytes],
        length: int,
        turnstile: Turnstile,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        sent: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._pieces, self._turnstile, self._sent = pieces, turnstile, sent
        super().__init__(headers=headers, media_type=media_type)
        self.headers["Content-Length"] = str(length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for piece in self._pieces:
            # Comes back when the client has read most of what was sent before.
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await self._turnstile.wait()  # the network may take megabytes at once
        if self._sent is not None:
            await self._sent()
        await send({"type": "http.response.body", "body": b""})


class AudioAnswer(_InPieces):
    """An object of the fields of `data` and, under `name`, audio in base64."""

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
        pieces, length = json_pieces(data, name, audio), json_length(data, name, audio)
        super().__init__(pieces, length, turnstile, headers, sent=sent)


class FileAnswer(_InPieces):
    """A WAV or FLAC file by itself; the headers tell what was guessed or repaired in its clip."""

    def __init__(
        self,
        audio: bytes,
        warnings: Iterable[str],
        turnstile: Turnstile,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        kind = "flac" if audio.startswith(b"fLaC") else "wav"
        told = list(warnings)
        # In JSON: sentences may hold what headers can't.
        warned = {WARNINGS_HEADER: json.dumps(told)} if told else {}
        super().__init__(
            _pieces_of(audio),
            len(audio),
            turnstile,
            {**(headers or {}), **warned},
            f"audio/{kind}",
        )


def _pieces_of(audio: bytes) -> Iterator[bytes]:
    for at in range(0, len(audio), _PIECE):
        yield audio[at : at + _PIECE]


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
