"""Answers for what the door, or an application without error handlers, refuses."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics import Metrics
from ..problems import Problem


class Refusals:
    """Turns a Problem into an answer, unless one has begun."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Problem as problem:
            if begun:
                return
            self._metrics.count_refusal(problem.status)
            if scope["type"] == "websocket":
                # Closed before it is accepted: the handshake is answered with 403.
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            else:
                answer = JSONResponse({"error": problem.message}, problem.status, problem.headers)
                await answer(scope, receive, send)
