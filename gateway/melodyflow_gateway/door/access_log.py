"""One log line and one count for each HTTP request but those of probes."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics import Metrics
from ..problems import CLIENT_GONE
from .handshake import is_socket_io
from .hosts import METRICS, PROBES

log = logging.getLogger(__name__)

_PERIODIC = PROBES | {METRICS}


class AccessLog:
    """Logs each request when its answer ends, by its route: a path may hold a session's name.
    What asks again every few seconds, probes and Prometheus, is neither logged nor counted, unless
    the gateway itself fails."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, bytes_in, bytes_out = CLIENT_GONE, 0, 0

        async def count_received() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def count_sent(message: Message) -> None:
            nonlocal status, bytes_out
            status = message.get("status", status)
            bytes_out += len(message.get("body", b""))
            await send(message)

        started = time.monotonic()
        try:
            await self._app(scope, count_received, count_sent)
        finally:
            route = _route(scope)
            if route not in _PERIODIC or status == 500:
                self._metrics.requests.labels(route, str(status)).inc()
                log.info(
                    "request",
                    extra={
                        "method": scope["method"],
                        "route": route,
                        "status": status,
                        "seconds": round(time.monotonic() - started, 3),
                        "bytes_in": bytes_in,
                        "bytes_out": bytes_out,
                        "owner": scope.get("state", {}).get("owner"),
                    },
                )


def _route(scope: Scope) -> str:
    route: str | None = getattr(scope.get("route"), "path", None)
    if route is not None:
        return route
    return "/socket.io" if is_socket_io(scope) else "other"
