"""How messages reach Socket.IO: whole, readable, and the large ones taken apart already."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
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
from ..wire.body import joined, read_body
from .packets import SEPARATOR, LargeEvent, TextPacket, look_at

_KINDS = (b"0", b"1", b"2", b"3", b"4", b"5", b"6")  # what an Engine.IO packet begins with
# What a polling client may send: for another one Engine.IO would wait without end.
_CLOSE = b"1"
_POLLING_KINDS = (_CLOSE, b"3", b"4", b"5")

# Bytes of a packet above which a thread reads it.
_LARGE = 2**16
# Of a polling client's large body beside itself: what is read of it.
_COPIES = 2
# The large events of a connection or a body that are read and not yet handled, by the short
# messages that stand for them.
_READ: ContextVar[dict[str, LargeEvent]] = ContextVar("read")

log = logging.getLogger(__name__)


class PacketServer(socketio.AsyncServer):  # type: ignore[misc]  # published without types
    """Takes large events from PlainPackets, which has read them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(serializer=TextPacket, **options)

    async def _handle_eio_message(self, eio_sid: str, data: object) -> None:
        event = _READ.get().pop(data, None) if isinstance(data, str) else None
        if event is None:
            await super()._handle_eio_message(eio_sid, data)
        else:
            await self._handle_event(eio_sid, event.namespace, event.id, event.data)


class PlainPackets:
    """Hands Engine.IO only what it can read: it raises where a packet isn't one, or where a client
    leaves while it sends.

    A large event is read here, beside the event loop and one of an owner at a time, and a short
    message goes on in its place: Engine.IO and Socket.IO would copy it again and again on the loop.
    A broken body is refused with 400; over a WebSocket, what is no packet ends the connection, and
    a large event that can't be read is dropped.
    """

    def __init__(self, app: ASGIApp, decoding: Decoding, owners: Owners) -> None:
        self._app, self._decoding, self._owners = app, decoding, owners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not is_socket_io(scope):
            await self._app(scope, receive, send)
            return
        _READ.set({})
        if scope["type"] == "websocket":
            transport = parse_qs(scope["query_string"].decode()).get("transport", [""])[0]
            if transport != "websocket":
                raise Problem(400, f"transport: {short(transport)}; a WebSocket's is websocket")
            sender = await holder(scope, self._owners)
            await self._app(scope, self._messages(sender, receive, send), send)
        else:
            await self._poll(scope, receive, send)

    async def _poll(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(_no_upgrade(scope), _first(b"", receive), send)
            return
        share: Share = scope["state"]["share"]
        try:
            body = await read_body(_pieces(receive), self._decoding, share.owner, look_at)
        except _Left:
            return
        size = sum(map(len, body))
        if size <= _LARGE:
            short_body = _short_body(joined(body))
            await self._app(_no_upgrade(scope), _first(short_body, receive), send)
            return
        share.must_fit(_COPIES * size)
        async with self._decoding.turn(share.owner):
            share.take(_COPIES * size)
            read = _READ.get()
            short_body = await self._decoding.run_in_turn(lambda: _short_body(joined(body), read))
            await self._app(_no_upgrade(scope), _first(short_body, receive), send)
        # What was taken is given back with the request.

    def _messages(self, sender: str, receive: Receive, send: Send) -> Receive:
        """A WebSocket's messages, up to the first that is no packet."""
        read = _READ.get()

        async def next_one() -> Message:
            while True:
                message = await receive()
                text = message.get("text") if message["type"] == "websocket.receive" else None
                if text is None:
                    return message
                if text[:1].encode() not in _KINDS:
                    log.warning("a socket is closed", extra={"reason": "not a packet of Engine.IO"})
                    close = {"type": "websocket.close", "code": 1007, "reason": "not a packet"}
                    await send(close)
                    return {"type": "websocket.disconnect", "code": 1007}
                if len(text) <= _LARGE:
                    return message
                try:
                    event = await self._decoding.run(partial(_event, text), sender)
                except (ValueError, IndexError) as error:
                    log.warning("a message is dropped", extra={"reason": str(error)})
                    continue
                return {"type": "websocket.receive", "text": _in_its_place(event, read)}

        return next_one


def _event(text: str) -> LargeEvent:
    return LargeEvent(text.encode())


def _in_its_place(event: LargeEvent, read: dict[str, LargeEvent]) -> str:
    """Keeps an event; the packet that stands for it."""
    name = f"read {len(read)}"
    read[name] = event
    return f"4{name}"


def _no_upgrade(scope: Scope) -> Scope:
    """A request that is no handshake, as the listener says; Engine.IO would go by one header."""
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"upgrade"]}


class _Left(Exception):
    """A client has left while it sent."""


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _Left
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _short_body(body: bytearray, read: dict[str, LargeEvent] | None = None) -> bytes:
    """A polling client's packets; a large event is kept in `read`, and a short packet stands in its
    place. Raises Problem, 400."""
    utf8("body", body)
    if not body:
        return b""
    if body.count(SEPARATOR) >= engineio.payload.Payload.max_decode_packets:
        raise Problem(400, "body: too many packets")
    packets = body.split(SEPARATOR) if SEPARATOR in body else [body]
    for number, packet in enumerate(packets):
        kind = packet[:1]
        if kind not in _POLLING_KINDS:
            raise Problem(400, f"body: {short(packet[: 2 * SHOWN])} is no packet of a client's")
        if kind == _CLOSE and number + 1 < len(packets):
            raise Problem(400, "body: a packet follows the one that closes the connection")
        if read is not None and len(packet) > _LARGE:
            try:
                event = LargeEvent(packet)
            except (ValueError, IndexError) as error:
                raise Problem(400, f"body: {error}") from None
            packets[number] = bytearray(_in_its_place(event, read).encode())
    return bytes(SEPARATOR.join(packets))


def _first(body: bytes, receive: Receive) -> Receive:
    """What an application receives: a body that is here already, and then the rest."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_one() -> Message:
        return messages.pop() if messages else await receive()

    return next_one
