"""All open connections: bounded in number, in all and by address, and watched for those that stall.

uvicorn has no time limit on a request's head, on a body's progress or on an answer that nobody
reads, and no bound on connections that have sent nothing yet. Nor have the other ASGI servers in
pure Python, except for the head; so these limits are here, over uvicorn's own protocols.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from melodyflow_client.errors import InvalidRequest

from ..budget import Budget
from ..metrics import Metrics

log = logging.getLogger(__name__)

# Descriptors for everything else: Triton, Redis, logs, files of the page, connections that are
# accepted only to be refused.
RESERVED_DESCRIPTORS = 192
_LOOK_SECONDS = 1.0

REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Type: application/json\r\n"
    b"Retry-After: 5\r\n"
    b"Connection: close\r\n"
    b"Content-Length: 55\r\n\r\n"
    b'{"error": "connections: too many are open; try again"}\n'
)


@dataclass(frozen=True)
class Bounds:
    """connections: open at once. by_address: of one client address (of one /64 network for IPv6).
    head_seconds: for a request's line and headers. rate: least bytes a second, either way, averaged
    over `window` seconds.
    """

    connections: int = 512
    by_address: int = 256
    head_seconds: float = 10.0
    rate: float = 4096.0
    window: float = 10.0


class Connection(Protocol):
    """One open connection, whatever it speaks."""

    @property
    def address(self) -> str: ...

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered, so that closing it loses nothing."""

    def overdue(self, now: float) -> str | None:
        """What it has taken too long for, if it has."""

    def abort(self) -> None:
        """Closes it at once; what is queued for it is dropped."""


class Connections:
    """The open connections, the oldest first."""

    def __init__(self, bounds: Bounds, metrics: Metrics, budget: Budget) -> None:
        self.bounds, self.budget = bounds, budget
        self._metrics = metrics
        self._open: dict[Connection, str] = {}
        self._by_address: Counter[str] = Counter()
        self._looking: asyncio.TimerHandle | None = None

    def admit(self, connection: Connection) -> bool:
        """Whether a new connection may stay. Where all places are taken, an idle one makes room, or
        else the newest of the address that has the most."""
        mine = self._by_address[network(connection.address)]
        if mine >= self.bounds.by_address:
            return self._refuse(connection, "address")
        if len(self._open) >= self.bounds.connections and not self._make_room(mine):
            return self._refuse(connection, "all")
        self.join(connection)
        return True

    def join(self, connection: Connection) -> None:
        """Takes one in that has a place already, such as a WebSocket that began as a request."""
        self._open[connection] = network(connection.address)
        self._by_address[self._open[connection]] += 1
        self._metrics.connections.set(len(self._open))
        if self._looking is None:
            self._look_later()

    def leave(self, connection: Connection) -> None:
        """May be called twice."""
        name = self._open.pop(connection, None)
        if name is None:
            return
        self._by_address[name] -= 1
        if not self._by_address[name]:
            del self._by_address[name]
        self._metrics.connections.set(len(self._open))

    def _refuse(self, connection: Connection, bound: str) -> bool:
        self._metrics.refused.labels("connections").inc()
        log.warning("connection refused", extra={"bound": bound, "address": connection.address})
        return False

    def _make_room(self, mine: int) -> bool:
        """mine: how many the newcomer's address has. It takes nobody's place who would then have
        fewer than itself."""
        leaving = next((connection for connection in self._open if connection.idle), None)
        if leaving is None:
            name, most = self._by_address.most_common(1)[0]
            if most <= mine + 1:
                return False
            leaving = next(one for one, its in reversed(self._open.items()) if its == name)
            extra = {"bound": "all", "address": leaving.address}
            log.warning("connection closed for another address", extra=extra)
        self.leave(leaving)
        leaving.abort()
        return True

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            reason = connection.overdue(now)
            if reason is not None:
                self._metrics.refused.labels("slow").inc()
                log.warning(
                    "connection closed", extra={"reason": reason, "address": connection.address}
                )
                self.leave(connection)
                connection.abort()
        self._looking = None
        if self._open:
            self._look_later()


def network(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 one."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return address


def reserve_descriptors(connections: int) -> None:
    """Makes sure that this process may open as many files as its connections need.

    Raises InvalidRequest where the hard limit is too low.
    """
    needed = connections + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InvalidRequest(
            f"connections: {connections}; this process may open {hard} files, and {needed} are "
            f"needed; set at most {hard - RESERVED_DESCRIPTORS}, or raise `ulimit -n`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
