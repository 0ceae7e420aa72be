"""Bytes that are no text, before the application sees them: an answer, or a closed connection."""

import socket
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from .conftest import PATIENCE, TOKEN, Running, Start, until

MINE = f"Authorization: Bearer {TOKEN}\r\n".encode()
UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def lonely(start_gateway: Start) -> Running:
    """A gateway with nothing behind it."""
    return start_gateway("127.0.0.1:1", TOKENS=TOKEN)


def no_traceback(gateway: Running, since: int) -> bool:
    assert until(lambda: gateway.get("/variations").status_code == 401)
    return "raceback" not in "".join(gateway.said[since:])


def upgrade_with(old: bytes, new: bytes) -> bytes:
    """A handshake that differs in one place."""
    assert old in UPGRADE
    return UPGRADE.replace(old, new, 1) + MINE + b"\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /variations?x=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /variations?x=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX\xff: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\r\n\r\n", 400),
        (
            b"GET /limits HTTP/1.1\r\nHost: localhost\r\nCookie: melodyflow_gateway=\xff\r\n\r\n",
            401,
        ),
        (b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Length: \xff\r\n\r\n", 400),
        (b"\xff\xfe\x00\r\n\r\n", 400),
        (UPGRADE + MINE + b"X-Any: \xff\r\nCookie: a=\xff\r\n\r\n", 101),
        (UPGRADE + b"Authorization: Bearer \xff\r\n\r\n", 403),
        (UPGRADE + MINE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n", 400),
        (UPGRADE + MINE + b"Cookie: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (UPGRADE + MINE + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (UPGRADE.replace(b"EIO", b"x=" + b"a" * 20_000 + b"&EIO", 1) + MINE + b"\r\n", 414),
        (upgrade_with(b"Connection: Upgrade", b"Connection: x"), 400),
        (upgrade_with(b"Connection: Upgrade\r\n", b""), 400),
        (upgrade_with(b"Upgrade: websocket\r\n", b""), 400),
        (upgrade_with(b"Upgrade: websocket", b"Upgrade: websocket, h2c"), 400),
        (upgrade_with(b"transport=websocket", b"transport=polling"), 403),
        (upgrade_with(b"&transport=websocket", b""), 403),
        (upgrade_with(b"=websocket HTTP", b"=websocket&transport=polling HTTP"), 101),
        (upgrade_with(b"=websocket HTTP", b"=polling&transport=websocket HTTP"), 403),
        (upgrade_with(b"Version: 13", b"Version: 12"), 400),
    ],
)
def test_a_request_is_answered(lonely: Running, request_: bytes, status: int) -> None:
    count = len(lonely.said)
    with socket.create_connection(("127.0.0.1", lonely.port), PATIENCE) as client:
        client.sendall(request_)
        assert int(client.recv(4096).split()[1]) == status
        if status in (414, 431):  # nothing else would close it
            while client.recv(4096):
                pass
    assert no_traceback(lonely, count)


def send(client: ClientConnection, opcode: Opcode, data: bytes, last: bool = True) -> None:
    client.socket.sendall(Frame(opcode, data, last).serialize(mask=True))


@pytest.mark.parametrize(
    "frames",
    [
        [(Opcode.TEXT, b"\xff", True)],
        [(Opcode.TEXT, b"\xff", True), (Opcode.TEXT, b"\xff", True), (Opcode.TEXT, b"40", True)],
        [(Opcode.TEXT, b"4\xc3", False), (Opcode.CONT, b"\xff", True)],
        [(Opcode.TEXT, b"x", True)],
    ],
)
def test_a_message_that_is_not_text_ends_its_connection(
    lonely: Running, frames: list[tuple[Opcode, bytes, bool]]
) -> None:
    count = len(lonely.said)
    url = f"ws://127.0.0.1:{lonely.port}/socket.io/?EIO=4&transport=websocket"
    mine = {"Authorization": f"Bearer {TOKEN}"}
    with connect(url, additional_headers=mine, proxy=None) as client:
        client.recv(timeout=PATIENCE)
        with suppress(OSError):  # it may be closed after the first
            for frame in frames:
                send(client, *frame)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1007
    assert no_traceback(lonely, count)


def test_a_character_may_be_split_between_frames(lonely: Running) -> None:
    url = f"ws://127.0.0.1:{lonely.port}/socket.io/?EIO=4&transport=websocket"
    mine = {"Authorization": f"Bearer {TOKEN}"}
    with connect(url, additional_headers=mine, proxy=None) as client:
        client.recv(timeout=PATIENCE)
        client.send("40")
        client.recv(timeout=PATIENCE)
        text = '42["undo_transform_request",{"session_id":"ä"}]'.encode()
        at = text.index("ä".encode()) + 1
        send(client, Opcode.TEXT, text[:at], last=False)
        send(client, Opcode.CONT, text[at:])
        assert "session_id: 'ä'" in str(client.recv(timeout=PATIENCE)).encode().decode(
            "unicode_escape"
        )
