"""Browsers that are signed in: until when, and what a cookie opens."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from melodyflow_gateway.app import create_app
from melodyflow_gateway.door import sign_ins
from melodyflow_gateway.door.sign_ins import MOST, MOST_SECONDS
from melodyflow_gateway.settings import Settings

from .asgi import Answer, Door, Headers
from .conftest import OTHER_TOKEN, PATIENCE, TOKEN, Running, Start, until

COOKIE = b"melodyflow_gateway"
SOCKET_IO = b"EIO=4&transport=polling"


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


def gateway_with(runner: asyncio.Runner, redis: str = "", tokens: str = TOKEN) -> Door:
    words = (*tokens.split(","),)
    return Door(create_app(Settings(server="127.0.0.1:1", tokens=words, redis_url=redis)), runner)


@pytest.fixture(params=["process", "redis"])
def redis(request: pytest.FixtureRequest) -> str:
    """Where sign-ins are: a Redis, empty, or "" for the process."""
    if request.param == "process":
        return ""
    url: str = request.getfixturevalue("redis_url")
    Redis.from_url(url).flushall()
    return url


@pytest.fixture
def door(runner: asyncio.Runner, redis: str) -> Door:
    return gateway_with(runner, redis, f"{TOKEN},{OTHER_TOKEN}")


def bearer(token: str) -> Headers:
    return [(b"authorization", f"Bearer {token}".encode())]


def log_in(door: Door, token: str = TOKEN) -> Answer:
    return door.ask("POST", b"/login", body=b"token=" + token.encode())


def signed_in(door: Door, token: str = TOKEN) -> Headers:
    """The headers of a browser that gave its token."""
    answer = log_in(door, token)
    assert answer.status == 303
    return [(b"cookie", answer.headers[b"set-cookie"].partition(b";")[0])]


def opens(door: Door, headers: Headers) -> bool:
    """Whether a request is let in; the page says the same as the routes."""
    status = door.ask("GET", b"/variations", headers=headers).status
    page = door.ask("GET", b"/login", headers=headers).status
    assert (status, page) in ((200, 303), (401, 200))
    return status == 200


def test_logging_out_ends_it_on_the_server(door: Door) -> None:
    one, two, three = signed_in(door), signed_in(door), signed_in(door, OTHER_TOKEN)
    assert len({one[0], two[0], three[0]}) == 3
    assert opens(door, one)
    answer = door.ask("POST", b"/logout", headers=one)
    assert (answer.status, answer.headers[b"location"]) == (303, b"/login")
    assert not opens(door, one)
    assert opens(door, two)
    assert opens(door, three)
    assert door.ask("POST", b"/logout").status == 303


@pytest.mark.parametrize(
    "cookie",
    [
        "melodyflow_gateway=another-ports; MINE",
        "MINE; melodyflow_gateway=another-ports",
        "melodyflow_gateway=; melodyflow_gateway; melodyflow_gateway==; MINE",
        'melodyflow_gateway="; MINE',
        'other="a; MINE',
        "[x]=(1); {}={}; a@b; MINE; @=,",
        "mode=\x01\xff; melodyflow_gateway=\xff; MINE",
        "MINE;melodyflow_gateway=x",
        "Melodyflow_Gateway=x;  MINE  ",
    ],
)
def test_foreign_cookies_break_nothing(runner: asyncio.Runner, cookie: str) -> None:
    door = gateway_with(runner)
    mine = signed_in(door)[0][1]
    header = cookie.encode("latin-1").replace(b"MINE", mine)
    assert opens(door, [(b"cookie", header)])
    assert opens(door, [(b"cookie", COOKIE + b"=x"), (b"cookie", mine)])
    assert not opens(door, [(b"cookie", header.replace(mine, COOKIE + b"=x"))])
    door.ask("POST", b"/logout", headers=[(b"cookie", header)])
    assert not opens(door, [(b"cookie", mine)])


def test_a_cookie_of_an_owner_who_is_gone_does_not_hide_another(redis_url: str) -> None:
    with asyncio.Runner() as runner:
        before = gateway_with(runner, redis_url, f"{TOKEN},{OTHER_TOKEN}")
        gone, kept = signed_in(before, OTHER_TOKEN), signed_in(before)
        after = gateway_with(runner, redis_url)
        assert not opens(after, gone)
        assert opens(after, [*gone, *kept])


def test_the_latest_ones_of_each_owner_are_kept(door: Door) -> None:
    other = signed_in(door, OTHER_TOKEN)
    ended = signed_in(door)
    door.ask("POST", b"/logout", headers=ended)  # counts no more
    first, second, *_, last = [signed_in(door) for _ in range(MOST + 1)]
    assert not opens(door, first)
    assert opens(door, second)
    assert opens(door, last)
    assert opens(door, other)


def test_a_sign_in_ends_by_itself(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    door = gateway_with(runner)
    mine = signed_in(door)
    now = sign_ins.time.monotonic()
    monkeypatch.setattr(sign_ins.time, "monotonic", lambda: now + MOST_SECONDS - 60)
    assert opens(door, mine)
    monkeypatch.setattr(sign_ins.time, "monotonic", lambda: now + MOST_SECONDS + 60)
    assert not opens(door, mine)


def test_redis_keeps_a_hash_alone_and_for_a_time(runner: asyncio.Runner, redis_url: str) -> None:
    known = Redis.from_url(redis_url)
    known.flushall()
    door = gateway_with(runner, redis_url)
    mine = signed_in(door)
    value = mine[0][1].partition(b"=")[2]
    (key,) = known.keys("melodyflow:sign-in:*")
    everything = b" ".join([key, known.get(key), *known.keys("*")])
    assert value not in everything
    assert TOKEN.encode() not in everything
    assert all(0 < known.ttl(name) <= MOST_SECONDS for name in known.keys("*"))
    door.ask("POST", b"/logout", headers=mine)
    assert known.keys("*") == []


def test_two_gateways_share_a_sign_in(runner: asyncio.Runner, redis_url: str) -> None:
    one, two = gateway_with(runner, redis_url), gateway_with(runner, redis_url)
    mine = signed_in(one)
    assert opens(two, mine)
    two.ask("POST", b"/logout", headers=mine)
    assert not opens(one, mine)


def test_without_redis_a_cookie_waits_and_a_token_does_not(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melodyflow_gateway.sessions.redis._TRIES", 1)
    door = gateway_with(runner, "unix:///nowhere/redis.sock")
    cookie = [(b"cookie", COOKIE + b"=x")]
    for path in (b"/variations", b"/", b"/login"):
        answer = door.ask("GET", path, headers=cookie)
        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
    assert door.ask("GET", b"/variations", headers=bearer(TOKEN)).status == 200
    assert door.ask("GET", b"/variations").status == 401


def test_only_wrong_tokens_are_counted(door: Door) -> None:
    wrong = [log_in(door, f"a-wrong-token-{number:04}").status for number in range(15)]
    assert wrong == [401] * 10 + [429] * 5
    assert [log_in(door).status for _ in range(15)] == [303] * 15
    assert log_in(door, "a-wrong-token-0000").status == 429


@pytest.fixture(scope="module")
def real(start_gateway: Start) -> Running:
    """A gateway that listens; nothing is behind it."""
    return start_gateway("127.0.0.1:1", TOKENS=TOKEN)


def test_a_client_cannot_say_where_it_comes_from(real: Running) -> None:
    def tried(number: int) -> int:
        elsewhere = {"X-Forwarded-For": f"192.0.2.{number}", "Forwarded": f"for=192.0.2.{number}"}
        form = {"token": f"a-wrong-token-{number:04}"}
        return real.post("/login", data=form, headers=elsewhere).status_code

    assert [tried(number) for number in range(12)] == [401] * 10 + [429] * 2


def socket_opened(door: Door, headers: Headers) -> bytes:
    """The query of a Socket.IO connection over polling."""
    answer = door.ask("GET", b"/socket.io/", SOCKET_IO, headers)
    sid = json.loads(answer.body[1:])["sid"]
    return b"%s&sid=%s" % (SOCKET_IO, sid.encode())


@pytest.mark.parametrize("by", ["token", "cookie"])
def test_a_socket_is_used_with_the_credentials_it_was_opened_with(door: Door, by: str) -> None:
    mine = bearer(TOKEN) if by == "token" else signed_in(door)
    query = socket_opened(door, mine)
    others: list[Headers] = [
        bearer(OTHER_TOKEN),
        bearer("wrong"),
        [(b"authorization", b"")],
        [(b"cookie", COOKIE + b"=wrong")],
        signed_in(door, OTHER_TOKEN),
    ]
    for other in others:
        assert door.ask("POST", b"/socket.io/", query, other, b"40").status == 401
        assert door.ask("GET", b"/socket.io/", query, other).status == 401
        got = door.talk(other, [], more=query.partition(b"polling")[2])
        assert [message["type"] for message in got] == ["websocket.close"]
    for same in (mine, bearer(TOKEN), signed_in(door), [], [(b"cookie", b"other=1")]):
        assert door.ask("POST", b"/socket.io/", query, same, b"3").status == 200
    assert door.ask("POST", b"/socket.io/", query, body=b"40").status == 200
    assert door.ask("GET", b"/socket.io/", query).status == 200
    assert door.ask("POST", b"/socket.io/", query, body=b"1").status == 200  # it closes
    assert door.ask("POST", b"/socket.io/", query, bearer(OTHER_TOKEN), b"40").status == 400


def test_a_socket_hears_no_more_from_a_browser_that_has_logged_out(door: Door) -> None:
    mine = signed_in(door)
    query = socket_opened(door, mine)
    assert door.ask("POST", b"/socket.io/", query, mine, b"40").status == 200
    door.ask("POST", b"/logout", headers=mine)
    for headers in (mine, []):  # there is no such connection any more
        assert door.ask("POST", b"/socket.io/", query, headers, b"3").status == 400
    assert door.ask("GET", b"/socket.io/", SOCKET_IO, mine).status == 401


@pytest.fixture(scope="module")
def pair(start_gateway: Start, redis_url: str) -> tuple[Running, Running]:
    """Two gateways that share sign-ins."""
    one, two = (start_gateway("127.0.0.1:1", TOKENS=TOKEN, REDIS_URL=redis_url) for _ in "ab")
    return one, two


def cookie_of(gateway: Running) -> dict[str, str]:
    answer = gateway.post("/login", data={"token": TOKEN}, allow_redirects=False)
    gateway.http.cookies.clear()
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


@contextmanager
def web_socket(gateway: Running, headers: dict[str, str]) -> Iterator[ClientConnection]:
    """A Socket.IO connection over a WebSocket that has heard what a new one hears."""
    url = f"ws{gateway.url.removeprefix('http')}/socket.io/?EIO=4&transport=websocket"
    with connect(url, additional_headers=headers) as socket:
        assert str(socket.recv())[:1] == "0"
        yield socket


@pytest.mark.parametrize("where", ["here", "at another gateway"])
def test_logging_out_closes_the_sockets_that_the_sign_in_opened(
    pair: tuple[Running, Running], where: str
) -> None:
    one, two = pair
    mine, others = cookie_of(one), cookie_of(one)
    kept = ({"Authorization": f"Bearer {TOKEN}"}, others)
    with ExitStack() as stack:
        ended = [stack.enter_context(web_socket(one, mine)) for _ in range(2)]
        open_still = [stack.enter_context(web_socket(one, headers)) for headers in kept]
        for socket in [*ended[1:], *open_still]:  # the first one opens no namespace
            socket.send("40")
            assert str(socket.recv())[:2] == "40"
        polling = one.get("/socket.io/?EIO=4&transport=polling", headers=mine).text
        query = f"/socket.io/?EIO=4&transport=polling&sid={json.loads(polling[1:])['sid']}"
        assert one.post(query, data="40").status_code == 200
        (two if where == "at another gateway" else one).post("/logout", headers=mine)
        for socket in ended:
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=PATIENCE)
        assert until(lambda: one.post(query, data="3").status_code == 400)  # no credentials
        for socket in open_still:
            socket.send('42["undo_transform_request", {"session_id": "none"}]')
            assert "nothing to undo" in str(socket.recv(timeout=PATIENCE))


def test_without_tokens_anyone_may(runner: asyncio.Runner) -> None:
    door = Door(create_app(Settings(server="127.0.0.1:1")), runner)
    query = socket_opened(door, [])
    assert door.ask("POST", b"/socket.io/", query, bearer("any"), b"40").status == 200
    assert log_in(door).status == 401
