"""Work that ends when the client that waits for it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

Value = TypeVar("Value")


async def unless_gone(request: Request, work: Callable[[], Awaitable[Value]]) -> Value:
    """Does the work; the request's body has been read.

    Raises ClientDisconnect, and cancels the work, when the client closes the connection.
    """

    async def leaves() -> None:
        message: Any = {}
        while message.get("type") != "http.disconnect":
            message = await request.receive()

    working, leaving = asyncio.ensure_future(work()), asyncio.ensure_future(leaves())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
