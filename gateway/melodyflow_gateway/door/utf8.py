"""Text that is no UTF-8 is refused before anything reads it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from ..text import utf8

# Other headers may hold what they like: nothing here reads them. Cookies are compared as bytes,
# and another service of this host may have set one.
_READ = {
    b"authorization",
    b"content-length",
    b"content-type",
    b"host",
    b"origin",
    b"sec-fetch-dest",
    b"sec-fetch-mode",
    b"sec-fetch-site",
    b"x-forwarded-proto",
}


class Utf8Text:
    """Refuses, with 400, a path, a query or a header that isn't UTF-8."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            utf8("path", unquote_to_bytes(scope.get("raw_path") or scope["path"].encode()))
            utf8("query", unquote_to_bytes(scope["query_string"]))
            for name, value in scope["headers"]:
                if name in _READ:
                    utf8(name.decode(), value)
        await self._app(scope, receive, send)
