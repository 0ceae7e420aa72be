"""The door: what every request passes before anything of it is read.

Host and Origin are held to lists, so that a page of another site cannot drive a gateway on this
machine, by DNS rebinding or otherwise; bodies are bounded before and while they are read; answers
carry the headers that keep a browser careful; and each request is logged in one line and counted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics import Metrics
from ..problems import CLIENT_GONE, Problem
from .access import Access

log = logging.getLogger(__name__)

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 16 * 2**20

# For answers that are no pages; pages have their own.
NO_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": NO_CONTENT_POLICY,
    "Cache-Control": "no-store",
}


class Guard:
    """Stands before the application, for HTTP and WebSocket alike.

    hosts: names that a request's Host may have, beside this machine's own.
    origins: of other sites that may use the gateway. max_body: bytes.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        origins: Iterable[str],
        max_body: int,
        access: Access,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)
        self._max_body = max_body
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._max_body)
        started = time.monotonic()
        try:
            self._check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except Problem as problem:
            if exchange.status is None:
                await _refuse(scope, exchange, problem)
        finally:
            if scope["type"] == "http":
                self._record(scope, exchange, time.monotonic() - started)

    def _check(self, scope: Scope) -> None:
        """Raises Problem for a request that must not come in."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._host_allowed(host):
            self._metrics.refused.labels("host").inc()
            raise Problem(421, f"Host: {host[:80]!r}; this gateway does not serve that name")
        if self._is_foreign(scope, headers, host):
            self._metrics.refused.labels("origin").inc()
            raise Problem(403, "Origin: another site's pages may not use this gateway")
        if _is_handshake(scope):
            # Of the routes each asks for the token itself; Socket.IO would do so only after it has
            # read a message, of whatever size. Later requests name what a handshake has given
            # out, which cannot be guessed; some clients send their headers with the first alone.
            try:
                self._access.owner(headers)
            except Problem:
                self._metrics.refused.labels("token").inc()
                raise
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._max_body:
            raise too_large(self._max_body)

    def _host_allowed(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if "@" in host:  # what stands before it is no part of the name
            return False
        if name == "localhost" or name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _is_foreign(self, scope: Scope, headers: Headers, host: str) -> bool:
        """Whether a page of another site sends this.

        Browsers say Origin with all that changes something and with WebSockets; for the rest, an
        <img> of another site for one, they say Sec-Fetch-Site. Following a link is no such use.
        """
        origins = headers.getlist("origin")
        if origins:
            return not all(
                origin in self._origins or _same_origin(origin, host) for origin in origins
            )
        site = headers.get("sec-fetch-site", "none")
        followed = (
            headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and scope.get("method") in ("GET", "HEAD")
        )
        return site not in ("none", "same-origin") and not followed

    def _record(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        # The route, not the path: that may hold a session's name.
        route = getattr(scope.get("route"), "path", None)
        if route is None:
            route = "/socket.io" if _is_socket_io(scope) else "other"
        status = exchange.status or CLIENT_GONE
        if status == 413:
            self._metrics.refused.labels("size").inc()
        self._metrics.requests.labels(route, str(status)).inc()
        log.info(
            "request",
            extra={
                "method": scope["method"],
                "route": route,
                "status": status,
                "seconds": round(seconds, 3),
                "bytes_in": exchange.bytes_in,
                "bytes_out": exchange.bytes_out,
                "owner": scope.get("state", {}).get("owner"),
            },
        )


class _Exchange:
    """One request's two directions, counted."""

    def __init__(self, receive: Receive, send: Send, max_body: int) -> None:
        self._receive, self._send, self._max_body = receive, send, max_body
        self.bytes_in = self.bytes_out = 0
        self.status: int | None = None

    async def receive(self) -> Message:
        """Raises Problem, 413, as soon as the body is longer than allowed."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            if self.bytes_in > self._max_body:
                raise too_large(self._max_body)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if self.status == 413:  # the rest of the body is not going to be read
                headers["Connection"] = "close"
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
            if self.status == 413 and not message.get("more_body"):
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        """Throws away some of what still comes: closed at once, the connection would be reset,
        and a client that is still sending would never see the answer."""
        thrown = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while thrown < _LINGER_BYTES:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
                    thrown += len(message.get("body", b""))


def _is_socket_io(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith("/socket.io")


def _is_handshake(scope: Scope) -> bool:
    """Whether this opens a Socket.IO connection: Engine.IO reads the query in this same way."""
    try:
        query = parse_qs(scope["query_string"].decode())
    except UnicodeDecodeError:
        query = {}
    return _is_socket_io(scope) and "sid" not in query


def too_large(limit: int) -> Problem:
    """The answer to a body of more than `limit` bytes."""
    return Problem(413, f"the body is too large; at most {limit} bytes are taken")


def _same_origin(origin: str, host: str) -> bool:
    """Whether an Origin is a page of this gateway, as the browser knows it by its Host.

    The scheme may be another than the one that arrives here, behind a proxy that ends TLS.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    default = f":{80 if parts.scheme == 'http' else 443}"
    return parts.netloc.lower().removesuffix(default) == host.lower().removesuffix(default)


async def _refuse(scope: Scope, exchange: _Exchange, problem: Problem) -> None:
    if scope["type"] == "websocket":
        # Before it is accepted this is an answer 403 to the handshake.
        await exchange.receive()
        await exchange.send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    body = json.dumps({"error": problem.message}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    headers |= problem.headers
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await exchange.send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await exchange.send({"type": "http.response.body", "body": body})
