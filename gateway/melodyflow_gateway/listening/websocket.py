"""uvicorn's WebSocket, with a place among the connections and limits on time."""

from __future__ import annotations

import logging
from asyncio import BaseTransport
from typing import Any

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..problems import Problem
from .connections import network
from .http import Config
from .pace import Pace
from .sockets import reset

log = logging.getLogger(__name__)

_COPIES = 3  # of a message: its frames, the whole of them, and their text


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A connections.Connection. Who does not answer pings is closed by uvicorn."""

    config: Config

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        bounds = self.config.connections.bounds
        self._reading = Pace(bounds.rate, bounds.window)
        self._writing = Pace(bounds.rate, bounds.window)
        self._received = 0

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def idle(self) -> bool:
        return False

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.config.connections.join(self)
        self._share = self.config.connections.budget.share(network(self.address))

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._share.take(_COPIES * len(data))
        except Problem:
            self._fail(1013, "the gateway is busy; try again")
            return
        super().data_received(data)
        refused = self.conn.handshake_exc
        if refused is not None and not self.handshake_initiated:  # uvicorn leaves it unanswered
            log.warning("a handshake is refused", extra={"reason": str(refused)})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    async def receive(self) -> ASGIReceiveEvent:
        # Who asks for the next message has taken the last one apart.
        self._share.give_back(self._share.size)
        return await super().receive()

    def send_receive_event_to_app(self) -> None:
        self._reading.rest()
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames):
            log.warning("a socket is closed", extra={"reason": "a message is not UTF-8"})
            self._fail(1007, "not UTF-8")
            return
        super().send_receive_event_to_app()

    def _fail(self, code: int, reason: str) -> None:
        self.frames = []
        self.conn.fail(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.config.connections.leave(self)
        self._share.release()
        super().connection_lost(exc)

    def overdue(self, now: float) -> str | None:
        if not self.writable.is_set():
            if self._writing.too_slow(now, -self.transport.get_write_buffer_size()):
                return "messages are read too slowly"
        else:
            self._writing.rest()
        if self._unfinished and not self.read_paused:
            if self._reading.too_slow(now, self._received):
                return "a message comes too slowly"
        else:
            self._reading.rest()
        return None

    @property
    def _unfinished(self) -> bool:
        """Whether a part of a message is here and the rest is not."""
        return bool(self.frames) or len(self.conn.reader.buffer) > 0

    def abort(self) -> None:
        if not self.writable.is_set():
            reset(self.transport)
        else:
            self.transport.abort()


def _is_utf8(frames: list[bytes]) -> bool:
    if all(frame.isascii() for frame in frames):
        return True
    try:
        b"".join(frames).decode()
    except UnicodeDecodeError:
        return False
    return True
