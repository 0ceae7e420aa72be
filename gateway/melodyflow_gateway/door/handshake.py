"""Socket.IO: the request that opens a connection needs a token."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .tokens import Tokens


class HandshakeToken:
    """Refuses, with 401, to open a Socket.IO connection without a token.

    Routes ask for the token themselves; Socket.IO would only do so after it has read a message of
    any size. Later requests carry the `sid` that the handshake gave out, which can't be guessed;
    some clients send their headers with the first request only.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and _is_handshake(scope):
            self._tokens.owner(Headers(scope=scope))
        await self._app(scope, receive, send)


def is_socket_io(scope: Scope) -> bool:
    """Whether a request goes to Socket.IO."""
    path: str = scope["path"]
    return path.startswith("/socket.io")


def _is_handshake(scope: Scope) -> bool:
    # Engine.IO reads the query in this same way.
    try:
        query = parse_qs(scope["query_string"].decode())
    except UnicodeDecodeError:
        query = {}
    return is_socket_io(scope) and "sid" not in query
