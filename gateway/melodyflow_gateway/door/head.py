"""HEAD: what GET would answer, without its body."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEAD = "head"  # in a request's state


def is_head(scope: Scope) -> bool:
    """Whether a GET was a HEAD, so that the body of its answer reaches nobody."""
    return bool(scope.get("state", {}).get(_HEAD))


class HeadAsGet:
    """Answers HEAD wherever there is a GET (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        state = {**scope.get("state", {}), _HEAD: True}
        asked = {**scope, "method": "GET", "state": state}
        try:
            await self._app(asked, receive, send_head)
        finally:
            scope["route"] = asked.get("route")  # for the log
