"""Host: the names that this gateway answers to.

A page of another site could otherwise drive a gateway on this machine by DNS rebinding.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..problems import Problem


class AllowedHosts:
    """Refuses a request, with 421, whose Host is neither loopback nor one of `hosts`."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            given = Headers(scope=scope).getlist("host")
            if len(given) != 1 or not self._allowed(given[0]):
                host = given[0] if given else ""
                raise Problem(421, f"Host: {host[:80]!r}; this gateway doesn't serve that name")
        await self._app(scope, receive, send)

    def _allowed(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if "@" in host:  # urlsplit takes what stands before it for a user, not for the name
            return False
        if name == "localhost" or name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False
