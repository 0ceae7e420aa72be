"""The gateway's application, asked as the server library asks it; nothing listens."""

import asyncio
import json
from dataclasses import dataclass, field
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

Headers = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


class Door:
    """One application, and the loop that it runs on."""

    def __init__(self, app: ASGIApp, runner: asyncio.Runner) -> None:
        self._app, self._runner = app, runner

    def ask(
        self,
        method: str,
        path: bytes,
        query: bytes = b"",
        headers: Headers | None = None,
        body: bytes = b"",
    ) -> Answer:
        return self._runner.run(self._ask(method, path, query, headers or [], body))

    async def _ask(
        self,
        method: str,
        path: bytes,
        query: bytes,
        headers: Headers,
        body: bytes,
    ) -> Answer:
        answer = Answer()
        messages: list[Message] = [
            {"type": "http.disconnect"},
            {"type": "http.request", "body": body, "more_body": False},
        ]

        async def receive() -> Message:
            return messages.pop()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], dict(message["headers"])
            answer.body += message.get("body", b"")

        if method == "POST" and not any(name == b"content-length" for name, _ in headers):
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self._app(scope_of("http", method, path, query, headers), receive, send)
        return answer

    def talk(self, headers: Headers, sent: list[Message], more: bytes = b"") -> list[Message]:
        """What comes back over a Socket.IO WebSocket, until it is closed or the client leaves.

        more: of the query.
        """
        return self._runner.run(self._talk(headers, sent, more))

    async def _talk(self, headers: Headers, sent: list[Message], more: bytes) -> list[Message]:
        got: list[Message] = []
        waiting = [{"type": "websocket.connect"}, *sent]

        async def receive() -> Message:
            await asyncio.sleep(0)
            return waiting.pop(0) if waiting else {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Message) -> None:
            got.append(message)

        query = b"EIO=4&transport=websocket" + more
        upgrade = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), *headers]
        scope = scope_of("websocket", "GET", b"/socket.io/", query, upgrade)
        async with asyncio.timeout(20):
            await self._app(scope, receive, send)
        return got


def scope_of(kind: str, method: str, path: bytes, query: bytes, headers: Headers) -> Scope:
    hosts = [] if any(name == b"host" for name, _ in headers) else [(b"host", b"localhost")]
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "method": method,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": [*hosts, *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8002),
        "state": {},
        "subprotocols": [],
    }
