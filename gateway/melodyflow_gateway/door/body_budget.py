"""A request's body, counted against the gateway's memory."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..budget import Budget
from ..listening.connections import network
from ..problems import Problem
from .owners import NOBODY, Owners


class BudgetedBody:
    """Takes each piece of a body from the budget as it arrives, until the answer is sent.

    Routes find the request's share in its state: they take from it what they make of the body, and
    give back what they no longer hold. Beyond the budget the answer is 503.
    """

    def __init__(self, app: ASGIApp, budget: Budget, owners: Owners) -> None:
        self._app, self._budget, self._owners = app, budget, owners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Looking for the owner may take a while, and without a body there is nothing to hold.
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        with self._budget.share(await holder(scope, self._owners)) as share:
            scope.setdefault("state", {})["share"] = share

            async def count() -> Message:
                message = await receive()
                share.take(len(message.get("body", b"")))
                return message

            await self._app(scope, count, send)


async def holder(scope: Scope, owners: Owners) -> str:
    """Who a request's memory counts for: its owner, or its address where it names none."""
    try:
        owner = await owners.of(scope)
    except Problem:  # its route refuses it
        owner = NOBODY
    if owner != NOBODY:
        return owner
    client = scope.get("client")
    return network(client[0]) if client else ""
