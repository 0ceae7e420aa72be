"""Socket.IO: who may open a connection, how many, and who may use one that is open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from ..problems import RETRY_SECONDS, Problem
from ..text import short
from .body_budget import holder
from .owners import Owners, has_credentials, owner_found

_LONGEST_SID = 64  # characters; Engine.IO shows and logs one that it doesn't know

MOST_OF_ONE = 128  # connections of one holder that are open at a time, their namespace or not
_HOLDER = "socket of"  # in the state of a request that opened one


class OpenSockets(Protocol):
    """The connections that are open, by the requests that opened them."""

    def request_of(self, sid: str) -> Scope | None:
        """None where there is no such connection."""

    def requests(self) -> Iterable[Scope]:
        """Of all of them."""


class SocketCredentials:
    """Refuses, with 401, to open a Socket.IO connection without a token, and to use one with other
    credentials than it was opened with.

    Routes ask for the token themselves; Socket.IO would only do so after it has read a message of
    any size. Later requests carry the `sid` that the first one was given, which can't be guessed;
    they may come without credentials, for some clients send their headers only once.

    most: connections that are open at a time; a polling client leaves its own behind for most of a
    minute.
    """

    def __init__(self, app: ASGIApp, owners: Owners, sockets: OpenSockets, most: int) -> None:
        self._app, self._owners, self._sockets, self._most = app, owners, sockets, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and is_socket_io(scope):
            await self._check(scope)
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        # Engine.IO reads the query in this same way.
        sids = parse_qs(scope["query_string"].decode()).get("sid")
        if not sids:
            await self._owners.of(scope)
            await self._admit(scope)
            return
        if len(sids[0]) > _LONGEST_SID:
            raise Problem(400, f"sid: {short(sids[0])} is too long")
        opened = self._sockets.request_of(sids[0])
        if opened is None or not has_credentials(scope):
            return
        if await self._owners.of(scope) != owner_found(opened):
            raise Problem(401, "sid: this connection was opened with another token")

    async def _admit(self, scope: Scope) -> None:
        mine = await holder(scope, self._owners)
        holders = [opened["state"].get(_HOLDER) for opened in self._sockets.requests()]
        if holders.count(mine) >= MOST_OF_ONE:
            raise Problem(
                429,
                f"{MOST_OF_ONE} of your Socket.IO connections are open; close some, or try again "
                "in a minute",
                RETRY_SECONDS,
            )
        if len(holders) >= self._most:
            raise Problem(503, "too many Socket.IO connections are open; try again", RETRY_SECONDS)
        scope["state"][_HOLDER] = mine


def is_socket_io(scope: Scope) -> bool:
    """Whether a request goes to Socket.IO."""
    path: str = scope["path"]
    return path.startswith("/socket.io")
