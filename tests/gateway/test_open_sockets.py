"""How many Socket.IO connections may be open, whether they have opened their namespace or not."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from melodyflow_gateway.app import create_app
from melodyflow_gateway.door.handshake import MOST_OF_ONE
from melodyflow_gateway.settings import Settings

from .asgi import Door, Headers
from .conftest import OTHER_TOKEN, TOKEN

QUERY = b"EIO=4&transport=polling"
MINE: Headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
OTHERS: Headers = [(b"authorization", f"Bearer {OTHER_TOKEN}".encode())]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


def door(runner: asyncio.Runner, **settings: object) -> Door:
    tokens = (TOKEN, OTHER_TOKEN)
    return Door(create_app(Settings(server="127.0.0.1:1", tokens=tokens, **settings)), runner)


def opened(gateway: Door, headers: Headers) -> tuple[int, bytes]:
    """The status, and the query of what comes after."""
    answer = gateway.ask("GET", b"/socket.io/", QUERY, headers)
    sid = json.loads(answer.body[1:])["sid"] if answer.status == 200 else ""
    return answer.status, QUERY + b"&sid=" + sid.encode()


def test_one_owner_has_so_many(runner: asyncio.Runner) -> None:
    gateway = door(runner)
    queries = [opened(gateway, MINE)[1] for _ in range(MOST_OF_ONE)]
    assert opened(gateway, MINE)[0] == 429
    assert gateway.talk(MINE, [])[0]["type"] == "websocket.close"
    assert opened(gateway, OTHERS)[0] == 200
    assert gateway.ask("POST", b"/socket.io/", queries[5], MINE, b"40").status == 200
    assert gateway.ask("POST", b"/socket.io/", queries[5], MINE, b"1").status == 200  # it closes
    assert opened(gateway, MINE)[0] == 200
    assert opened(gateway, MINE)[0] == 429


def test_all_have_as_many_as_there_are_connections(runner: asyncio.Runner) -> None:
    gateway = door(runner, connections=5)
    assert [opened(gateway, MINE)[0] for _ in range(3)] == [200] * 3
    assert [opened(gateway, OTHERS)[0] for _ in range(3)] == [200, 200, 503]
