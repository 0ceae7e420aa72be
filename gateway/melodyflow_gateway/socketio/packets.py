"""What Socket.IO's clients send, taken apart at a bounded cost."""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import engineio
import socketio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..budget import Share
from ..decoding import Decoding
from ..door.body_budget import holder
from ..door.handshake import is_socket_io
from ..door.owners import Owners
from ..problems import Problem
from ..text import SHOWN, short, utf8
from ..wire.lifting import PLACEHOLDER, lift
from .quoted import quoted_event

AUDIO = "audio_data"  # the only field of an event that may be large
# What clients may send.
EVENTS = ("transform_audio_request", "undo_transform_request", "request_progress_status")
_NAME = re.compile(rb'\s*\[\s*"([A-Za-z0-9_:.-]{1,100})"\s*,')  # of an event
_LONGEST_ENGINE_JSON = 4096  # characters
RESERVED = ("connect", "disconnect")
_KINDS = (b"0", b"1", b"2", b"3", b"4", b"5", b"6")  # what an Engine.IO packet begins with
# What a polling client may send: for another one Engine.IO would wait without end.
_CLOSE = b"1"
_POLLING_KINDS = (_CLOSE, b"3", b"4", b"5")
_SEPARATOR = b"\x1e"  # between the packets of a body

# Bytes of a message above which threads look at it.
LARGE = 2**16
# Of a polling client's message, while it is taken apart: its text, its packet, the event.
_COPIES = 4
# Whose turn a large message needs; "": it has it.
SENDER: ContextVar[str] = ContextVar("sender", default="")

log = logging.getLogger(__name__)


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
            quoted = quoted_event(encoded, AUDIO)
            if quoted is not None:
                return quoted
            lifted = lift(encoded, AUDIO)
            value = json.loads(lifted.rest)
        except Problem as problem:
            name = _NAME.match(encoded)
            if name is not None and name[1].decode() not in EVENTS:
                return [name[1].decode()]  # it is refused, whatever it holds
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
            # Socket.IO would call its own handlers with what the client says.
            if self.data[0] in RESERVED:
                raise ValueError("the name of an event is reserved")
            if len(self.data) > 2:
                raise ValueError("an event carries one object")
        return 0


class PacketServer(socketio.AsyncServer):  # type: ignore[misc]  # published without types
    """Takes large packets apart beside the event loop, one of an owner at a time."""

    def __init__(self, *, decoding: Decoding, **options: Any) -> None:
        self._decoding = decoding
        super().__init__(serializer=TextPacket, **options)

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        if len(data) <= LARGE:
            await super()._handle_eio_message(eio_sid, data)
            return
        work, sender = partial(TextPacket, encoded_packet=data), SENDER.get()
        if sender:
            packet = await self._decoding.run(work, sender)
        else:
            packet = await self._decoding.run_in_turn(work)
        if packet.packet_type != socketio.packet.EVENT:
            raise ValueError("only an event may be so long")
        await self._handle_event(eio_sid, packet.namespace, packet.id, packet.data)


class PlainPackets:
    """Hands Engine.IO only what it can read: it raises where a packet isn't one, or where a client
    leaves while it sends.

    A polling client's message goes on in one piece: Engine.IO joins pieces one by one, which copies
    a large message a thousand times. A broken one is refused with 400; over a WebSocket it ends the
    connection. Large ones are looked at beside the event loop, one of an owner at a time.
    """

    def __init__(self, app: ASGIApp, decoding: Decoding, owners: Owners) -> None:
        self._app, self._decoding, self._owners = app, decoding, owners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not is_socket_io(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            transport = parse_qs(scope["query_string"].decode()).get("transport", [""])[0]
            if transport != "websocket":
                raise Problem(400, f"transport: {short(transport)}; a WebSocket's is websocket")
            SENDER.set(await holder(scope, self._owners))
            await self._app(scope, _packets(receive, send), send)
        else:
            await self._poll(scope, receive, send)

    async def _poll(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces = await _pieces(receive) if scope["method"] == "POST" else [b""]
        if pieces is None:  # its client is gone
            return
        size = sum(map(len, pieces))
        if size <= LARGE:
            body = _checked(pieces)
            await self._app(_no_upgrade(scope), _first(body, receive), send)
            return
        share: Share = scope["state"]["share"]
        share.must_fit(_COPIES * size)
        async with self._decoding.turn(share.owner):
            share.take(_COPIES * size)
            body = await self._decoding.run_in_turn(partial(_checked, pieces))
            pieces.clear()
            await self._app(_no_upgrade(scope), _first(body, receive), send)
        # What was taken is given back with the request.


def _no_upgrade(scope: Scope) -> Scope:
    """A request that is no handshake, as the listener says; Engine.IO would go by one header."""
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"upgrade"]}


async def _pieces(receive: Receive) -> list[bytes] | None:
    """A body as it came; None where its client left."""
    pieces = []
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return pieces


def _checked(pieces: list[bytes]) -> bytes:
    """A polling client's packets, in one piece. Raises Problem, 400."""
    body = b"".join(pieces)
    utf8("body", body)
    if body.count(_SEPARATOR) >= engineio.payload.Payload.max_decode_packets:
        raise Problem(400, "body: too many packets")
    at = 0
    while body:
        kind = body[at : at + 1]
        if kind not in _POLLING_KINDS:
            raise Problem(
                400, f"body: {short(body[at : at + 2 * SHOWN])} is no packet of a client's"
            )
        at = body.find(_SEPARATOR, at) + 1
        if not at:
            break
        if kind == _CLOSE:
            raise Problem(400, "body: a packet follows the one that closes the connection")
    return body


def _first(body: bytes, receive: Receive) -> Receive:
    """What an application receives: a body that is here already, and then the rest."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_one() -> Message:
        return messages.pop() if messages else await receive()

    return next_one


def _packets(receive: Receive, send: Send) -> Receive:
    """A WebSocket's messages, up to the first that is no packet."""

    async def next_one() -> Message:
        message = await receive()
        text = message.get("text") if message["type"] == "websocket.receive" else None
        if text is None or text[:1].encode() in _KINDS:
            return message
        log.warning("a socket is closed", extra={"reason": "not a packet of Engine.IO"})
        await send({"type": "websocket.close", "code": 1007, "reason": "not a packet"})
        return {"type": "websocket.disconnect", "code": 1007}

    return next_one


class WithoutTraceback(logging.Filter):
    """For the libraries' logs: what a client sent that is no packet is one line, not a traceback.
    Errors of ours in an event's handler do not come this way: they are answered and logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            record.msg = f"{record.msg}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
