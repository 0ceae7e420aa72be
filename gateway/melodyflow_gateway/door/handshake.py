"""Socket.IO: who may open a connection, and who may use one that is open."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from ..problems import Problem
from ..text import short
from .owners import Owners, has_credentials, owner_found

_LONGEST_SID = 64  # characters; Engine.IO shows and logs one that it doesn't know

# The request that opened the connection of a `sid`; None where there is no such connection.
Opener = Callable[[str], Scope | None]


class SocketCredentials:
    """Refuses, with 401, to open a Socket.IO connection without a token, and to use one with other
    credentials than it was opened with.

    Routes ask for the token themselves; Socket.IO would only do so after it has read a message of
    any size. Later requests carry the `sid` that the first one was given, which can't be guessed;
    they may come without credentials, for some clients send their headers only once.
    """

    def __init__(self, app: ASGIApp, owners: Owners, opener: Opener) -> None:
        self._app, self._owners, self._opener = app, owners, opener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and is_socket_io(scope):
            await self._check(scope)
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        # Engine.IO reads the query in this same way.
        sids = parse_qs(scope["query_string"].decode()).get("sid")
        if not sids:
            await self._owners.of(scope)
            return
        if len(sids[0]) > _LONGEST_SID:
            raise Problem(400, f"sid: {short(sids[0])} is too long")
        opened = self._opener(sids[0])
        if opened is None or not has_credentials(scope):
            return
        if await self._owners.of(scope) != owner_found(opened):
            raise Problem(401, "sid: this connection was opened with another token")


def is_socket_io(scope: Scope) -> bool:
    """Whether a request goes to Socket.IO."""
    path: str = scope["path"]
    return path.startswith("/socket.io")
