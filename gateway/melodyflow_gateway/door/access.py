"""Who asks: bearer tokens, the browser's cookie, and the owner that sessions belong to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie

from ..problems import Problem

COOKIE = "melodyflow_gateway"
NOBODY = "local"  # the owner where no token is asked for


class Access:
    """Knows the tokens. An owner is a name for one that does not tell it."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._owners = {token: _digest(token, "owner")[:16] for token in tokens}
        self._cookies = {self.cookie(token): owner for token, owner in self._owners.items()}

    @property
    def needed(self) -> bool:
        """Whether a token is asked for at all."""
        return bool(self._owners)

    def cookie(self, token: str) -> str:
        """The cookie's value for a token. It opens the gateway and does not tell the token, for
        cookies go to every port of a host."""
        return _digest(token, "cookie")

    def owner_of_token(self, token: str) -> str | None:
        """The owner of a token; None where it is wrong."""
        return _find(token, self._owners)

    def owner(self, headers: Mapping[str, str]) -> str:
        """The owner of a request, by its headers (names in lower case). Raises Problem, 401."""
        if not self.needed:
            return NOBODY
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = None
        if scheme.lower() == "bearer":
            found = self.owner_of_token(token.strip())
        elif not scheme:
            found = _find(_cookie_value(headers.get("cookie", "")), self._cookies)
        if found is None:
            raise Problem(401, "a valid token is needed: Authorization: Bearer TOKEN")
        return found


def _find(given: str, owners: Mapping[str, str]) -> str | None:
    """In a time that tells nothing of what is known."""
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
