"""What Socket.IO's clients send, taken apart at a bounded cost."""

from __future__ import annotations

import json
import logging
from typing import Any

import socketio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..door.handshake import is_socket_io
from ..problems import Problem
from ..wire.lifting import PLACEHOLDER, lift

AUDIO = "audio_data"  # the only field of an event that may be large
_LONGEST_ENGINE_JSON = 4096  # characters


class Json:
    """Socket.IO's JSON: audio stays as it is, in base64, and is not parsed.

    An event's audio becomes a memoryview of its characters. Raises ValueError for what is no JSON
    or is more than an event may hold.
    """

    dumps = staticmethod(json.dumps)

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        encoded = text.encode() if isinstance(text, str) else text
        try:
            lifted = lift(encoded, AUDIO)
            value = json.loads(lifted.rest)
        except Problem as problem:
            raise ValueError(problem.message) from None
        except RecursionError as error:
            raise ValueError(str(error)) from None
        if lifted.audio is not None:
            for part in value if isinstance(value, list) else ():
                if isinstance(part, dict) and part.get(AUDIO) == PLACEHOLDER.decode():
                    part[AUDIO] = lifted.audio
        return value


class EngineJson:
    """Engine.IO's JSON, under Socket.IO's: it tries every message, and only its own are short."""

    dumps = staticmethod(json.dumps)

    @staticmethod
    def loads(text: str, **_: Any) -> Any:
        if len(text) > _LONGEST_ENGINE_JSON:
            raise ValueError("too long")
        return json.loads(text)


class TextPacket(socketio.packet.Packet):  # type: ignore[misc]  # published without types
    """A packet without binary attachments, of which one event could have any number, each as large
    as a message may be. Audio comes in base64; who sends it otherwise finds a placeholder read."""

    json = Json
    packet_type: int
    data: Any
    id: int | None

    def decode(self, encoded_packet: str | bytes) -> int:
        """Raises ValueError for what no client of ours sends."""
        if not isinstance(encoded_packet, str):
            raise ValueError("binary attachments are not allowed")
        super().decode(encoded_packet)
        if self.packet_type in (socketio.packet.BINARY_EVENT, socketio.packet.BINARY_ACK):
            self.packet_type = socketio.packet.EVENT
        if self.packet_type == socketio.packet.EVENT:
            named = isinstance(self.data, list) and self.data and isinstance(self.data[0], str)
            if not named:
                raise ValueError("an event is a list that begins with its name")
        return 0


class WholeBodies:
    """Hands a polling client's message on in one piece: Engine.IO joins pieces one by one, which
    copies a large message a thousand times."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not is_socket_io(scope):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        more = True

        async def whole() -> Message:
            nonlocal body, more
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    more = False
                    return message
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if not more:
                    joined, body = bytes(body), bytearray()
                    return {"type": "http.request", "body": joined, "more_body": False}
            return await receive()

        await self._app(scope, whole, send)


class WithoutTraceback(logging.Filter):
    """For the libraries' logs: what a client sent that is no packet is one line, not a traceback.
    Errors of ours in an event's handler do not come this way: they are answered and logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            record.msg = f"{record.msg}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
