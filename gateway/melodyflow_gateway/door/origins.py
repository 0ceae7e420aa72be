"""Origin: pages of other sites can't use this gateway through a visitor's browser."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..problems import Problem


class AllowedOrigins:
    """Refuses, with 403, what a page of another site sends, unless it is one of `origins`.

    One that is a scheme alone, `capacitor://`, stands for all origins of that scheme.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app, self._allowed = app, re.compile(pattern_of(origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self._is_foreign(scope):
            raise Problem(403, "Origin: pages of other sites can't use this gateway")
        await self._app(scope, receive, send)

    def _is_foreign(self, scope: Scope) -> bool:
        """Whether a page of another site sends this.

        Browsers send Origin with WebSockets and with requests that change something. For the rest,
        such as an <img> on another site, they send Sec-Fetch-Site. Following a link is allowed.
        """
        headers = Headers(scope=scope)
        origins = headers.getlist("origin")
        if origins:
            host = headers.get("host", "")
            return not all(
                self._allowed.fullmatch(origin) or _same_origin(origin, host) for origin in origins
            )
        site = headers.get("sec-fetch-site", "none")
        followed = (
            headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and scope.get("method") in ("GET", "HEAD")
        )
        return site not in ("none", "same-origin") and not followed


def pattern_of(origins: Iterable[str]) -> str:
    """A regular expression that matches those origins, and for a scheme alone all of that scheme;
    without any it matches nothing."""
    each = (
        re.escape(origin) + (r"[\w.:-]*" if origin.endswith("://") else "") for origin in origins
    )
    return "|".join(each) or r"(?!)"


def _same_origin(origin: str, host: str) -> bool:
    """Whether an Origin is a page of this gateway, as the browser knows it by its Host.

    The schemes may differ: a proxy in front may end TLS.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    default = f":{80 if parts.scheme == 'http' else 443}"
    return parts.netloc.lower().removesuffix(default) == host.lower().removesuffix(default)
