"""Who asks: bearer tokens, the browser's cookie, and the owner that sessions belong to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie

from ..problems import Problem

COOKIE = "melodyflow_gateway"
NOBODY = "local"  # the owner where no tokens are set


class Tokens:
    """The accepted tokens. An owner is a name for a token that doesn't reveal it."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._owners = {token: _digest(token, "owner")[:16] for token in tokens}
        self._cookies = {self.cookie(token): owner for token, owner in self._owners.items()}

    def cookie(self, token: str) -> str:
        """The cookie's value for a token. It opens the gateway but doesn't reveal the token:
        browsers send cookies to every port of a host."""
        return _digest(token, "cookie")

    def owner_of(self, token: str) -> str | None:
        """The owner of a token; None for a wrong one."""
        return _find(token, self._owners)

    def owner(self, headers: Mapping[str, str]) -> str:
        """The owner of a request, by its headers (lower-case names). Raises Problem, 401."""
        if not self._owners:
            return NOBODY
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = None
        if scheme.lower() == "bearer":
            found = self.owner_of(token.strip())
        elif not scheme:
            found = _find(_cookie_value(headers.get("cookie", "")), self._cookies)
        if found is None:
            raise Problem(401, "a valid token is required: Authorization: Bearer TOKEN")
        return found


def _find(given: str, owners: Mapping[str, str]) -> str | None:
    """Looks at every entry, so that the time taken reveals nothing."""
    found = None
    for known, owner in owners.items():
        if hmac.compare_digest(known.encode(), given.encode("utf-8", "replace")):
            found = owner
    return found


def _cookie_value(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _digest(token: str, purpose: str) -> str:
    return hmac.new(token.encode(), f"melodyflow {purpose}".encode(), hashlib.sha256).hexdigest()
