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
from ..settings import variable
from .tokens import Tokens, bearer

# Whoever asks for these names the gateway by an address that it can't know, such as a pod's. Their
# answers hold nothing of anybody's, and change nothing.
PROBES = frozenset({"/health", "/ready"})
METRICS = "/metrics"


class AllowedHosts:
    """Refuses a request, with 421, whose Host is neither loopback nor one of `hosts`. Probes may
    have any Host, and `/metrics` with one of `tokens`, which no page of another site knows."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], tokens: Tokens) -> None:
        self._app, self._hosts, self._tokens = app, frozenset(hosts), tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._exempt(scope):
            given = Headers(scope=scope).getlist("host")
            if len(given) != 1 or not self._allowed(given[0]):
                host = given[0] if given else ""
                raise Problem(
                    421,
                    f"Host: {host[:80]!r}; this gateway doesn't serve that name; its operator can "
                    f"add it to {variable('hosts')}",
                )
        await self._app(scope, receive, send)

    def _exempt(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return False
        if scope["path"] == METRICS:
            token = bearer(Headers(scope=scope))
            return token is not None and self._tokens.owner_of(token) is not None
        return scope["path"] in PROBES

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
