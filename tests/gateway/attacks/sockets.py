"""Attacks by how it is sent and read: slowly, in part, or not at all."""

from __future__ import annotations

import base64
import json
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import requests
from websockets.sync.client import ClientConnection, connect

from .clients import MIB, Heard, edit_with_a_result, post, session_from
from .files import wav

POLLING = "?EIO=4&transport=polling"
MANY = 1100  # connections: more than 1,024, the descriptors that a process often has


@contextmanager
def web_socket(url: str, address: str) -> Iterator[ClientConnection]:
    """A Socket.IO connection whose namespace is open."""
    with connect(
        f"ws://{urlsplit(url).netloc}/socket.io/?EIO=4&transport=websocket",
        source_address=(address, 0),
        max_size=None,
        close_timeout=1,
    ) as connection:
        connection.recv()
        connection.send("40")
        connection.recv()
        yield connection


def first_word(client: socket.socket) -> str:
    """The status of what a connection has answered so far, or how it ended."""
    client.setblocking(False)
    try:
        piece = client.recv(20)
    except BlockingIOError:
        return "nothing"
    except OSError as error:
        return type(error).__name__
    return piece[9:12].decode() or "closed"


def unread(url: str, address: str, until: float, request: bytes, most: int) -> Heard:
    """The same request on so many connections, which are held and not read."""
    parts = urlsplit(url)
    heard: Heard = Counter()
    held: list[socket.socket] = []
    while time.time() < until and len(held) < most:
        asking = socket.socket()
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.settimeout(5)
        with suppress(OSError):
            asking.bind((address, 0))
            asking.connect((parts.hostname, parts.port))
            asking.sendall(request)
        held.append(asking)
    time.sleep(max(0.0, until - time.time()))
    for asking in held:
        heard[first_word(asking)] += 1
        asking.close()
    return heard


def half_sent(url: str, address: str) -> Generator[None, float, Heard]:
    """Heads and bodies that never come to an end."""
    heard: Heard = Counter()
    host, port = urlsplit(url).hostname, urlsplit(url).port
    beginnings = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",
        b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 60000000\r\n\r\n{"audio": "',
    )
    held: list[socket.socket] = []
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * MANY, most), most))
    until = yield
    while time.time() < until:
        if len(held) < MANY:
            client = socket.socket()
            with suppress(OSError):
                client.bind((address, 0))
                client.settimeout(5)
                client.connect((host, port))
                client.sendall(beginnings[len(held) % 2])
                client.setblocking(False)
                held.append(client)
                continue
            client.close()
            heard["not connected"] += 1
            time.sleep(0.1)
        for client in list(held):
            try:
                piece = client.recv(4096)
            except BlockingIOError:
                continue
            except OSError:
                piece = b""
            heard[piece[9:12].decode() if piece.startswith(b"HTTP") else "closed"] += 1
            held.remove(client)
            client.close()
        time.sleep(0.1)
    heard["still open"] = len(held)
    for client in held:
        client.close()
    return heard


def unread_results(url: str, address: str) -> Generator[None, float, Heard]:
    """Asks for a result of 12 s again and again, and reads nothing of it."""
    name = f"unread-{os.getpid()}"
    edit_with_a_result(session_from(address), url, name)
    request = f"GET /api/juce/poll_status/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    until = yield
    return unread(url, address, until, request, 250)


def unread_undos(url: str, address: str) -> Generator[None, float, Heard]:
    """A socket that asks for its original again and again, and reads nothing."""
    name = f"undone-{os.getpid()}"
    edit_with_a_result(session_from(address), url, name)
    heard: Heard = Counter()
    until = yield
    while time.time() < until:
        try:
            with web_socket(url, address) as asking:
                for _ in range(400):
                    asking.send("42" + json.dumps(["undo_transform_request", {"session_id": name}]))
                heard["undos asked"] += 400
                while time.time() < until:
                    time.sleep(0.5)
                    asking.send("3")
        except Exception as error:
            heard[type(error).__name__] += 1
            time.sleep(0.5)
    return heard


def large_polls(url: str, address: str) -> Generator[None, float, Heard]:
    """Messages of 60 MB by Socket.IO's polling."""
    client = session_from(address)
    heard: Heard = Counter()
    message = "42" + json.dumps(["transform_audio_request", {"audio_data": "A" * (60 * 10**6)}])
    until = yield
    while time.time() < until:
        try:
            opened = client.get(f"{url}/socket.io/{POLLING}", timeout=30).text
            sid = json.loads(opened[1:])["sid"]
            poll = f"{url}/socket.io/{POLLING}&sid={sid}"
            client.post(poll, data="40", timeout=30)
            heard[str(client.post(poll, data=message, timeout=60).status_code)] += 1
        except (requests.RequestException, ValueError) as error:
            heard[type(error).__name__] += 1
            time.sleep(0.3)
    return heard


def many_sids(url: str, address: str) -> Generator[None, float, Heard]:
    """Opens Socket.IO connections by polling, and does nothing with them."""
    until = yield
    heard: Heard = Counter()

    def work() -> None:
        client = session_from(address)
        while time.time() < until:
            try:
                status = client.get(f"{url}/socket.io/{POLLING}", timeout=30).status_code
                heard[str(status)] += 1
            except requests.RequestException as error:
                heard[type(error).__name__] += 1

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(work)
    return heard


def known_sid(url: str, address: str) -> Generator[None, float, Heard]:
    """Messages of 60 MB for somebody else's connection, whose sid is known, from ten clients."""
    opened = session_from("127.0.0.1").get(f"{url}/socket.io/{POLLING}", timeout=30).text
    sid = json.loads(opened[1:])["sid"]
    message = ("42" + json.dumps(["transform_audio_request", {"x": "A" * (60 * 10**6)}])).encode()
    until = yield
    return post(url, address, until, f"/socket.io/{POLLING}&sid={sid}", [message] * 10)


def socket_lists(url: str, address: str) -> Generator[None, float, Heard]:
    """A WebSocket's event of 54 MiB of lists."""
    lists = "[]," * (54 * MIB // 3)
    message = f'42["transform_audio_request",{{"audio_data":[{lists}[]]}}]'
    heard: Heard = Counter()
    until = yield
    while time.time() < until:
        try:
            with web_socket(url, address) as asking:
                asking.send(message)
                heard[str(asking.recv(timeout=60))[:40]] += 1
        except Exception as error:
            heard[type(error).__name__] += 1
            time.sleep(0.3)
    return heard


def unread_streams(url: str, address: str) -> Generator[None, float, Heard]:
    """Edits whose events nobody reads, 60 at a time."""
    body = json.dumps(
        {"audio": base64.b64encode(wav(12)).decode(), "variation": "celtic", "steps": 1}
    ).encode()
    head = b"POST /transform/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    until = yield
    return unread(
        url, address, until, b"%s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body), 60
    )
