"""Sockets of browsers: open as long as the sign-in that opened them."""

from __future__ import annotations

import asyncio

from ..door.owners import Owners
from ..problems import Problem
from .unread import BoundedServer

_LOOK_SECONDS = 5.0


class SignedInSockets:
    """Closes a socket once its sign-in has ended: at this gateway, at another one, or by itself."""

    def __init__(self, server: BoundedServer, owners: Owners) -> None:
        self._server, self._owners = server, owners

    async def close_ended(self) -> None:
        """Raises what the sign-ins raise."""
        for sid in list(self._server.environ):
            request = self._server.request_of(sid)
            if request is not None and not await self._owners.lets_in(request):
                await self._server.drop(sid, "its sign-in has ended")

    async def watch(self) -> None:
        """Does so every few seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.close_ended()
            except Problem:  # Redis is away, which has been logged
                continue
