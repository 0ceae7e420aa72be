"""What waits to be read by Socket.IO's clients: bounded for each connection, and counted."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import engineio
from starlette.types import Scope

from ..budget import Budget, Share
from ..problems import Problem
from .messages import PacketServer

log = logging.getLogger(__name__)

# A packet leaves the queue a moment before it is sent, with those behind it; and what is sent is a
# copy. So each takes twice its length.
_COPIES = 2


class UnreadQueue(asyncio.Queue[Any]):
    """Packets of one connection, and their bytes, which come from the budget."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self._share = share
        self.bytes = 0

    def take(self, size: int) -> None:
        """Makes room for a packet that is put in next. Raises Problem where there is none."""
        self._share.take(_COPIES * size)
        self.bytes += size

    def _get(self) -> Any:
        packet = super()._get()  # asyncio's own hook
        size = 0 if packet is None else packet_size(packet)
        # What the library puts in by itself, pings and such, was not taken for.
        size = min(size, self.bytes)
        self.bytes -= size
        self._share.give_back(_COPIES * size)
        return packet


class BoundedServer(PacketServer):
    """Closes a connection whose client leaves more than `most_unread` bytes unread. One packet is
    always taken, however large: a result may be larger."""

    def __init__(self, *, most_unread: int, budget: Budget, **options: Any) -> None:
        self._most_unread, self._budget = most_unread, budget
        super().__init__(**options)
        self.eio.create_queue = self._create_queue

    def _create_queue(self) -> UnreadQueue:
        share = self._budget.share("socket.io")
        queue = UnreadQueue(share)
        # A connection that ends leaves its queue as it is, perhaps with packets in it.
        weakref.finalize(queue, share.release)
        return queue

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self.eio.sockets.pop(eio_sid, None)  # the library raises where a closed one is posted to

    def request_of(self, sid: str) -> Scope | None:
        """The request that opened a connection; None where there is no such connection."""
        environ = self.environ.get(sid)
        return None if environ is None else environ["asgi.scope"]

    def requests(self) -> Iterator[Scope]:
        """Those that opened the connections that are open."""
        return (environ["asgi.scope"] for environ in self.environ.values())

    async def drop(self, eio_sid: str, reason: str) -> None:
        """Closes a connection at once: what it has not read is lost."""
        connection = self.eio.sockets.get(eio_sid)
        if connection is None:
            return
        log.warning("a socket is closed", extra={"reason": reason})
        while not connection.queue.empty():
            connection.queue.get_nowait()
        await connection.queue.put(None)  # ends whoever waits for it
        await connection.close(wait=False, abort=True)
        self.eio.sockets.pop(eio_sid, None)

    async def _send_eio_packet(self, eio_sid: str, eio_pkt: engineio.packet.Packet) -> None:
        connection = self.eio.sockets.get(eio_sid)
        if connection is None or connection.closed:
            return
        size = packet_size(eio_pkt)
        try:
            if connection.queue.bytes and connection.queue.bytes + size > self._most_unread:
                raise Problem(503, f"more than {self._most_unread} bytes are unread")
            connection.queue.take(size)
        except Problem as problem:
            await self.drop(eio_sid, problem.message)
            return
        await super()._send_eio_packet(eio_sid, eio_pkt)


def packet_size(packet: engineio.packet.Packet) -> int:
    data = packet.data
    return len(data) if isinstance(data, str | bytes) else 0
