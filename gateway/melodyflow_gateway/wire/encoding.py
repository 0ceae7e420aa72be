"""Audio in JSON, encoded off the event loop.

Encoders hold Python's lock while they work, in a thread too: base64 is made in pieces, and what
has nothing to escape is spared json. For 48 MiB the loop then waits 0.03 s, not 0.6 s.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping

_PIECE = 3 * 2**17  # bytes; of three at a time the base64 of pieces is that of the whole


async def base64_text(audio: bytes) -> str:
    """Audio in base64."""
    return await asyncio.to_thread(lambda: b"".join(_pieces(audio)).decode())


async def json_with_audio(
    data: Mapping[str, object], name: str, audio: bytes, before: bytes = b"", after: bytes = b""
) -> bytes:
    """An object of the fields of `data` and, under `name`, audio in base64; between two others."""

    def encode() -> bytes:
        # The audio is first: there may be nothing else.
        head = f'{{"{name}": "'.encode()
        tail = '"' + (", " if data else "") + json.dumps(data)[1:]
        return b"".join([before, head, *_pieces(audio), tail.encode(), after])

    return await asyncio.to_thread(encode)


def _pieces(audio: bytes) -> list[bytes]:
    whole = memoryview(audio)
    return [base64.b64encode(whole[at : at + _PIECE]) for at in range(0, len(audio), _PIECE)]
