"""uvicorn's HTTP/1.1, with a place among the connections and limits on time."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .connections import REFUSAL, Connections
from .pace import Pace
from .sockets import reset


class Config(uvicorn.Config):
    """uvicorn's settings, and the connections that its protocols join."""

    def __init__(self, app: Any, connections: Connections, **settings: Any) -> None:
        super().__init__(app, **settings)
        self.connections = connections


class HttpConnection(H11Protocol):
    """A connections.Connection."""

    config: Config

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        bounds = self.config.connections.bounds
        self._head_seconds = bounds.head_seconds
        self._reading = Pace(bounds.rate, bounds.window)
        self._writing = Pace(bounds.rate, bounds.window)
        self._received = 0
        self._idle_since = self.loop.time()
        self._admitted = False

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._admitted = self.config.connections.admit(self)
        if not self._admitted:
            # Nothing of its request has been read: a client that is still sending may see a reset.
            transport.write(REFUSAL)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._admitted:
            self._received += len(data)
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.config.connections.leave(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self.config.connections.leave(self)  # the WebSocket joins in its place
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def overdue(self, now: float) -> str | None:
        if self.flow.write_paused:
            # While it is paused nothing is added, so what leaves the buffer is what is read.
            if self._writing.too_slow(now, -self.transport.get_write_buffer_size()):
                return "the answer is read too slowly"
            return None
        self._writing.rest()
        if self.idle:
            self._reading.rest()
            late = now - self._idle_since > self._head_seconds
            return "no request came" if late else None
        if not self.cycle.more_body or self.flow.read_paused:
            self._reading.rest()
            return None
        slow = self._reading.too_slow(now, self._received)
        return "the body comes too slowly" if slow else None

    def abort(self) -> None:
        if self.flow.write_paused:
            reset(self.transport)
        else:
            self.transport.abort()
