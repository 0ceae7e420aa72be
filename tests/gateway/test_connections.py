"""Connections that stall, vanish or are too many end, and others do not notice."""

import asyncio
import errno
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn import Server

from melodyflow_client.errors import InvalidRequest
from melodyflow_gateway.budget import Budget
from melodyflow_gateway.listening import connections as module
from melodyflow_gateway.listening.connections import (
    Bounds,
    Connections,
    network,
    reserve_descriptors,
)
from melodyflow_gateway.listening.http import Config, HttpConnection
from melodyflow_gateway.listening.pace import Pace
from melodyflow_gateway.listening.sockets import BACKLOG, listen
from melodyflow_gateway.listening.websocket import WebSocketConnection
from melodyflow_gateway.logs import LONGEST, JsonLines, Repeats
from melodyflow_gateway.metrics import Metrics

BOUNDS = Bounds(connections=8, by_address=5, head_seconds=1.0, rate=1000, window=1.0)
HEAD = b"Host: localhost\r\n"
PATIENCE = 60.0


async def _length(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _large(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(2000):
            yield bytes(2**16)

    return StreamingResponse(pieces())


async def _hold(request: Request) -> Response:
    await asyncio.sleep(3 * BOUNDS.window)
    return PlainTextResponse("done")


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        text = await socket.receive_text()
        for _ in range(500 if text == "flood" else 1):
            await socket.send_text(text * (2**16 if text == "flood" else 1))


@asynccontextmanager
async def serving(bounds: Bounds = BOUNDS) -> AsyncIterator[tuple[int, Metrics]]:
    """The gateway's listener before a small application: its port and metrics."""
    app = Starlette(
        routes=[
            Route("/length", _length, methods=["POST"]),
            Route("/large", _large),
            Route("/hold", _hold),
            WebSocketRoute("/echo", _echo),
        ]
    )
    metrics = Metrics()
    config = Config(
        app,
        Connections(bounds, metrics, Budget(2**28, metrics.budget_bytes)),
        http=HttpConnection,
        ws=WebSocketConnection,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    listening = listen("127.0.0.1", 0)
    task = asyncio.create_task(server._serve([listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield listening.getsockname()[1], metrics
    server.should_exit = True
    await task


async def connect(port: int, address: str = "127.0.0.1", buffer: int = 0) -> socket.socket:
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.bind((address, 0))
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return client


async def say(client: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(client, data)


async def rest(client: socket.socket) -> bytes:
    """All that still comes until the connection ends, reset or not."""
    got = b""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                piece = await asyncio.get_running_loop().sock_recv(client, 2**16)
            except OSError:
                return got
            if not piece:
                return got
            got += piece


async def ask(
    port: int, path: str = "/length", body: bytes = b"", address: str = "127.0.0.1"
) -> bytes:
    client = await connect(port, address)
    method = b"POST" if path == "/length" else b"GET"
    head = b"%s %s HTTP/1.1\r\n%sConnection: close\r\n" % (method, path.encode(), HEAD)
    await say(client, head + b"Content-Length: 0\r\n\r\n")
    return await rest(client)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"POST /length HTTP/1.1\r\nHost:",
        b"POST /length HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello",
        b"POST /length HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhelloPOST /len",
        b"POST /length HTTP/1.1\r\n" + HEAD + b"Content-Length: 5000\r\n\r\nhel",
        b"POST /length HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
    ids=[
        "nothing",
        "a letter",
        "half a head",
        "one request",
        "half a second one",
        "body",
        "chunks",
    ],
)
def test_what_stalls_is_closed(sent: bytes) -> None:
    async def run() -> None:
        async with serving() as (port, _):
            client = await connect(port)
            await say(client, sent)
            await rest(client)
            assert (await ask(port)).endswith(b"\r\n\r\n0")

    asyncio.run(run())


def test_a_slow_body_is_taken_while_it_moves() -> None:
    async def run() -> None:
        async with serving() as (port, _):
            client = await connect(port)
            head = b"POST /length HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n"
            await say(client, head + b"Content-Length: 8000\r\n\r\n")
            for _ in range(16):
                await asyncio.sleep(0.2)
                await say(client, bytes(500))
            assert (await rest(client)).endswith(b"\r\n\r\n8000")

    asyncio.run(run())


def test_an_answer_that_takes_long_to_begin_is_waited_for() -> None:
    async def run() -> None:
        async with serving() as (port, _):
            assert (await ask(port, "/hold")).endswith(b"done")

    asyncio.run(run())


def test_an_answer_that_nobody_reads_is_dropped() -> None:
    async def run() -> None:
        async with serving() as (port, metrics):
            client = await connect(port, buffer=4096)
            await say(client, b"GET /large HTTP/1.1\r\n" + HEAD + b"\r\n")
            async with asyncio.timeout(PATIENCE):
                while not refused(metrics, "slow"):
                    await asyncio.sleep(0.1)
            # The kernel drops what it held, so that the client is told at once.
            while not (ended := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                await asyncio.sleep(0.1)
            assert ended == errno.ECONNRESET
            assert len(await rest(client)) < 2000 * 2**16

    asyncio.run(run())


async def open_websocket(client: socket.socket) -> None:
    head = b"GET /echo HTTP/1.1\r\n" + HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    await say(client, head + key)
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += await asyncio.get_running_loop().sock_recv(client, 1)
    assert got.startswith(b"HTTP/1.1 101")


def frame(text: bytes, announced: int | None = None) -> bytes:
    """A text frame of a client, masked with zeros."""
    return b"\x81" + bytes([0x80 | (announced or len(text))]) + bytes(4) + text


@pytest.mark.parametrize(
    "sent", [frame(b"flood"), frame(b"begun", 100)], ids=["unread", "half sent"]
)
def test_a_websocket_that_stalls_is_closed(sent: bytes) -> None:
    async def run() -> None:
        async with serving() as (port, metrics):
            client = await connect(port, buffer=4096)
            await open_websocket(client)
            await say(client, sent)
            async with asyncio.timeout(PATIENCE):
                while not refused(metrics, "slow"):
                    await asyncio.sleep(0.1)
            await rest(client)

    asyncio.run(run())


def test_a_websocket_may_be_silent() -> None:
    async def run() -> None:
        async with serving() as (port, _):
            client = await connect(port)
            await open_websocket(client)
            await asyncio.sleep(3 * BOUNDS.window)
            await say(client, frame(b"hello"))
            got = b""
            async with asyncio.timeout(PATIENCE):
                while not got.endswith(b"hello"):
                    got += await asyncio.get_running_loop().sock_recv(client, 2**16)
            client.close()

    asyncio.run(run())


def test_one_address_has_so_many_and_others_still_come_in() -> None:
    async def run() -> None:
        async with serving() as (port, metrics):
            held = [await connect(port, "127.0.0.2") for _ in range(BOUNDS.by_address)]
            await asyncio.sleep(0.1)
            late = await connect(port, "127.0.0.2")
            assert (await rest(late)).startswith(b"HTTP/1.1 503")
            assert (await ask(port)).endswith(b"\r\n\r\n0")
            assert refused(metrics, "connections") == 1
            for client in held:
                client.close()

    asyncio.run(run())


def test_where_all_places_are_taken_an_idle_connection_makes_room() -> None:
    async def run() -> None:
        async with serving() as (port, metrics):
            busy = [asyncio.create_task(ask(port, "/hold", address="127.0.0.3")) for _ in range(2)]
            await asyncio.sleep(0.2)
            held = [
                await connect(port, f"127.0.1.{number}")
                for number in range(1, BOUNDS.connections + 4)
            ]
            assert (await ask(port)).endswith(b"\r\n\r\n0")
            assert metrics.connections._value.get() <= BOUNDS.connections
            assert all(answer.endswith(b"done") for answer in await asyncio.gather(*busy))
            for client in held:
                client.close()

    asyncio.run(run())


def test_where_none_is_idle_the_address_with_the_most_gives_its_newest_one_up() -> None:
    begun = b"POST /length HTTP/1.1\r\n" + HEAD + b"Content-Length: 5000\r\n\r\nhel"

    async def begin(port: int, address: str) -> socket.socket:
        client = await connect(port, address)
        await say(client, begun)
        await asyncio.sleep(0.1)
        return client

    def is_open(client: socket.socket) -> bool:
        try:
            return bool(client.recv(1))
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def run() -> None:
        slow = Bounds(connections=8, by_address=5, head_seconds=60, rate=0, window=60)
        async with serving(slow) as (port, _):
            many = [await begin(port, "127.0.0.2") for _ in range(5)]
            few = [await begin(port, "127.0.0.3") for _ in range(3)]
            late = [await begin(port, "127.0.0.4") for _ in range(2)]
            assert [is_open(client) for client in many] == [True] * 3 + [False] * 2
            assert all(map(is_open, few + late))
            refused = await connect(port, "127.0.0.4")  # which would have as many as the others
            assert (await rest(refused)).startswith(b"HTTP/1.1 503")
            assert (await ask(port, address="127.0.0.5")).endswith(b"\r\n\r\n0")
            for client in many + few + late:
                client.close()

    asyncio.run(run())


def test_the_refusal_is_an_answer_of_its_own_length() -> None:
    head, _, body = module.REFUSAL.partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    assert "too many" in json.loads(body)["error"]


def test_places_are_given_back() -> None:
    async def run() -> None:
        async with serving() as (port, metrics):
            for _ in range(3 * BOUNDS.connections):
                assert (await ask(port)).endswith(b"\r\n\r\n0")
            async with asyncio.timeout(PATIENCE):
                while metrics.connections._value.get():
                    await asyncio.sleep(0.05)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("", ""),
    ],
)
def test_a_network_is_one_client(address: str, name: str) -> None:
    assert network(address) == name


def test_pace_judges_whole_windows() -> None:
    pace = Pace(rate=10, window=2)
    assert not pace.too_slow(0, 0)
    assert not pace.too_slow(1, 0)  # half a window says nothing
    assert not pace.too_slow(2, 20)
    assert pace.too_slow(4, 30)
    pace.rest()
    assert not pace.too_slow(100, 30)


def test_more_connections_than_files_are_refused_at_the_start() -> None:
    with pytest.raises(InvalidRequest, match=r"connections: \d+; this process may open \d+ files"):
        reserve_descriptors(2**40)


def test_a_warning_is_written_once_and_then_how_often() -> None:
    stream = StringIO()
    handler = Repeats(stream, seconds=0.2)
    handler.setFormatter(JsonLines())
    log = logging.Logger("a test")
    log.addHandler(handler)

    async def run() -> None:
        for number in range(1000):
            log.warning("connection refused", extra={"address": number})
            log.info("request")
        await asyncio.sleep(0.3)
        log.info("x" * 2 * LONGEST)

    asyncio.run(run())
    lines = stream.getvalue().splitlines()
    warnings = [json.loads(line) for line in lines if "refused" in line]
    assert "repeated" not in warnings[0]
    assert sum(line["repeated"] for line in warnings[1:]) == 999
    assert len(lines) - len(warnings) == 1001
    assert max(map(len, lines)) <= LONGEST + 3


def refused(metrics: Metrics, reason: str) -> float:
    return metrics.refused.labels(reason)._value.get()
