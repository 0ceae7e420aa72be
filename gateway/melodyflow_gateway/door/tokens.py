"""The bearer tokens that the operator gave out, and the owners that they stand for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers


class Tokens:
    """The accepted tokens. An owner is a name for a token that doesn't reveal it."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._by_token = {token: _digest(token) for token in tokens}
        self.owners = frozenset(self._by_token.values())

    def owner_of(self, token: str) -> str | None:
        """The owner of a token; None for a wrong one."""
        given = token.encode("utf-8", "replace")
        found = None
        # Looks at every token, so that the time taken reveals nothing.
        for known, owner in self._by_token.items():
            if hmac.compare_digest(known.encode(), given):
                found = owner
        return found


def bearer(headers: Headers) -> str | None:
    """The token of a request's Authorization; None without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _digest(token: str) -> str:
    return hmac.new(token.encode(), b"melodyflow owner", hashlib.sha256).hexdigest()[:16]
