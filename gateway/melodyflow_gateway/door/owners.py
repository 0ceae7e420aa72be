"""Who asks: the owner of a request, by its bearer token or by the browser's cookie."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from ..problems import Problem
from .sign_ins import SignIns, hash_of, new_id
from .tokens import Tokens, bearer

COOKIE = "melodyflow_gateway"
NOBODY = "local"  # the owner where no tokens are set

_OWNER = "owner"  # in a request's state


class Owners:
    """The owners of requests. A browser trades its token for a cookie once: `sign_in`."""

    def __init__(self, tokens: Tokens, sign_ins: SignIns) -> None:
        self._tokens, self._sign_ins = tokens, sign_ins

    async def of(self, scope: Scope) -> str:
        """The owner of a request, which its state keeps. Raises Problem: 401 without one, and what
        the sign-ins raise."""
        state = scope.setdefault("state", {})
        if _OWNER not in state:
            state[_OWNER] = await self._find(Headers(scope=scope))
        owner: str = state[_OWNER]
        return owner

    async def sign_in(self, token: str) -> str | None:
        """A cookie's value for a token; None for a wrong one."""
        owner = self._tokens.owner_of(token)
        if owner is None:
            return None
        value = new_id()
        await self._sign_ins.begin(hash_of(value.encode()), owner)
        return value

    async def sign_out(self, scope: Scope) -> None:
        """Ends what the request's cookies opened."""
        values = _cookies(Headers(scope=scope))
        if values:
            await self._sign_ins.end(map(hash_of, values))

    async def lets_in(self, scope: Scope) -> bool:
        """Whether a request's credentials still stand for the owner that they were found for.
        Raises Problem where that can't be told now."""
        try:
            return await self._find(Headers(scope=scope)) == owner_found(scope)
        except Problem as problem:
            if problem.status != 401:
                raise
            return False

    async def _find(self, headers: Headers) -> str:
        if not self._tokens.owners:
            return NOBODY
        token = bearer(headers)
        if token is not None:
            found = self._tokens.owner_of(token)
            if found is not None:
                return found
        elif not headers.get("authorization"):
            values = _cookies(headers)
            signed_in = await self._sign_ins.owners(map(hash_of, values)) if values else []
            for found in signed_in:
                if found in self._tokens.owners:  # the operator may have removed it since
                    return found
        raise Problem(401, "a valid token is required: Authorization: Bearer TOKEN")


def owner_found(scope: Scope) -> str | None:
    """The owner of a request, where it was asked for before."""
    owner: str | None = scope.get("state", {}).get(_OWNER)
    return owner


def has_credentials(scope: Scope) -> bool:
    """Whether a request has any, right or wrong."""
    headers = Headers(scope=scope)
    return "authorization" in headers or bool(_cookies(headers))


def _cookies(headers: Headers) -> list[bytes]:
    """The values of all cookies of our name: another service of this host may have set one too, and
    cookies of other names may hold what is no cookie."""
    values = []
    for header in headers.getlist("cookie"):
        for part in header.encode("latin-1").split(b";"):
            name, _, value = part.strip().partition(b"=")
            if name == COOKIE.encode() and value:
                values.append(value)
    return values
