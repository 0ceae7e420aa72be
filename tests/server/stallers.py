"""Clients of a gateway that are slow, say only half of what they would, or vanish.

    python -m tests.server.stallers --url http://127.0.0.1:8002 --token TOKEN --seconds 60

A process of its own with many clients; at the end it prints a line for each kind: how its
connections ended, and how often. Those that vanish have addresses of their own, whose packets
iptables drops from some moment on: neither side hears that the other one has gone. That needs root;
--stay leaves them out.
"""

import argparse
import base64
import json
import os
import random
import select
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from . import raw

AT_ONCE = 200
STAYING = "127.65.0.{}"  # addresses
VANISHING = "127.66.{}.{}"
TOGETHER = 10  # clients that vanish at one moment, with their address
GONE_SECONDS = 120.0  # for which it stays silent
LONGEST = 120.0  # seconds of one connection
POLLED_SECONDS = 30  # of the result that is read slowly or not at all
READ_BUFFER = 4096  # bytes
ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


@dataclass
class Target:
    """A gateway, and what is asked of it."""

    host: str
    port: int
    token: str

    def __post_init__(self) -> None:
        self._clip = _base64(4.0)

    def request(
        self, line: str, body: bytes = b"", length: int | None = None, more: str = ""
    ) -> bytes:
        """A request whose body may be shorter than it says."""
        return (
            f"{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n{more}"
            f"Content-Type: application/json\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
        ).encode() + body

    def edit(self, path: str, steps: int) -> bytes:
        fields = {"audio": self._clip, "variation": "celtic", "steps": steps}
        return self.request(f"POST {path}", json.dumps(fields).encode())

    def make_result(self) -> None:
        """A session with a long result."""
        http, url = requests.Session(), f"http://{self.host}:{self.port}/api/juce"
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {self.token}"
        fields = {"audio_data": _base64(POLLED_SECONDS), "variation": "celtic", "steps": 1}
        http.post(f"{url}/transform_audio", json={**fields, "session_id": "polled"})
        while (said := http.get(f"{url}/poll_status/polled").json())["status"] != "completed":
            if said["status"] not in ("queued", "warming", "processing"):
                raise RuntimeError(said)
            time.sleep(0.5)


def _base64(seconds: float) -> str:
    return base64.b64encode(raw.file_of(raw.music(seconds, 44100, 2), 44100)).decode()


# --- what clients do: each yields the seconds until it goes on ------------------------------------

Doing = Iterator[float]
Stall = Callable[[Target, socket.socket], Doing]


def slow_head(target: Target, client: socket.socket) -> Doing:
    for letter in target.request("GET /health"):
        client.send(bytes([letter]))
        yield 1.0
    client.send(b"never")


def slow_body(target: Target, client: socket.socket) -> Doing:
    client.send(target.request("POST /transform", length=10**7))
    while True:
        client.send(b"A" * 1000)
        yield 1.0


def slow_reader(target: Target, client: socket.socket) -> Doing:
    client.send(target.request("GET /api/juce/poll_status/polled"))
    while True:
        with suppress(BlockingIOError):
            client.recv(1000)
        yield 1.0


def says(request: Callable[[Target], bytes]) -> Stall:
    """Says one thing, and then nothing; it reads nothing either."""

    def stall(target: Target, client: socket.socket) -> Doing:
        rest = memoryview(request(target))
        while rest:
            with suppress(BlockingIOError):
                rest = rest[client.send(rest) :]
            yield 0.1

    return stall


def _socket(target: Target) -> bytes:
    more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    path = "GET /socket.io/?EIO=4&transport=websocket"
    return target.request(path, more=more + key).replace(b"Content-Length: 0\r\n", b"")


STALLS: dict[str, Stall] = {
    "slow head": slow_head,
    "slow body": slow_body,
    "slow reader": slow_reader,
    "says nothing": says(lambda _: b""),
    "half a head": says(lambda target: target.request("GET /health")[:40]),
    "half a body": says(lambda target: target.request("POST /transform", b"{", 10**6)),
    "one request, then nothing": says(lambda target: target.request("GET /health")),
    "result not read": says(lambda t: t.request("GET /api/juce/poll_status/polled")),
    "events not read": says(lambda target: target.edit("/transform/stream", 1)),
    "silent WebSocket": says(_socket),
    "silent polling": says(lambda t: t.request("GET /socket.io/?EIO=4&transport=polling")),
}
# At some moment of these the client vanishes.
VANISHED: dict[str, Stall] = {
    **{f"vanished: {name}": STALLS[name] for name in ("slow body", "result not read")},
    "vanished: silent WebSocket": STALLS["silent WebSocket"],
    "vanished: an edit runs": says(lambda target: target.edit("/transform", 24)),
    "vanished: an edit runs, events": says(lambda target: target.edit("/transform/stream", 24)),
}


# --- clients --------------------------------------------------------------------------------------


@dataclass
class Client:
    kind: str
    connection: socket.socket
    doing: Doing
    since: float
    due: float = 0.0


class Stallers:
    """Many clients at a time. ends: how they ended, by kind."""

    def __init__(self, target: Target, count: int, stay: bool, rng: random.Random) -> None:
        self._target, self._rng = target, rng
        self._staying = count if stay else count * 3 // 4
        self._groups = 0 if stay else (count - self._staying) // TOGETHER
        self._number = 0
        self.ends: Counter[tuple[str, str]] = Counter()

    def run(self, seconds: float) -> None:
        until, stay = time.monotonic() + seconds, list(STALLS)
        clients = [self._start(stay[n % len(stay)]) for n in range(self._staying)]
        groups = [_Group(self._rng, number) for number in range(self._groups)]
        try:
            while time.monotonic() < until:
                clients = [
                    client if (end := self._go_on(client)) is None else self._again(client, end)
                    for client in clients
                ]
                for group in groups:
                    group.go_on(self)
                time.sleep(0.05)
        finally:
            for group in groups:
                group.end()
        for client in clients:
            self.ends[client.kind, "still open"] += 1
            client.connection.close()

    def start(self, kind: str, stall: Stall, address: str) -> Client:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BUFFER)
        connection.settimeout(5)
        with suppress(OSError):  # then it has ended
            connection.bind((address, 0))
            connection.connect((self._target.host, self._target.port))
        connection.setblocking(False)
        return Client(kind, connection, stall(self._target, connection), time.monotonic())

    def _start(self, kind: str) -> Client:
        self._number += 1
        return self.start(kind, STALLS[kind], STAYING.format(1 + self._number % 20))

    def _again(self, client: Client, end: str) -> Client:
        self.ends[client.kind, end] += 1
        client.connection.close()
        return self._start(client.kind)

    def _go_on(self, client: Client) -> str | None:
        """How it has ended, if it has."""
        now = time.monotonic()
        looking = select.poll()
        looking.register(client.connection, ENDED)
        if looking.poll(0):
            return "closed by the gateway"
        if now - client.since > LONGEST:
            return f"open for {LONGEST:.0f} s"
        if now >= client.due:
            try:
                client.due = now + next(client.doing)
            except StopIteration:
                client.due = now + 2 * LONGEST
            except BlockingIOError:
                client.due = now + 1
            except OSError:
                return "closed by the gateway"
        return None


class _Group:
    """Clients of one address that vanish together, again and again from another address."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self._rng, self._number, self._turn = rng, number, 0
        self._clients: list[Client] = []
        self._address, self._silent = "", False
        self._next = time.monotonic() + rng.uniform(0, GONE_SECONDS)

    def go_on(self, all_of_them: Stallers) -> None:
        if self._clients and not self._silent:
            for client in self._clients:
                all_of_them._go_on(client)
        if time.monotonic() < self._next:
            return
        if not self._clients:
            self.end()
            self._turn += 1
            self._address = VANISHING.format(self._number, 1 + self._turn % 250)
            kinds = [list(VANISHED)[n % len(VANISHED)] for n in range(TOGETHER)]
            self._clients = [
                all_of_them.start(kind, VANISHED[kind], self._address) for kind in kinds
            ]
            self._next = time.monotonic() + self._rng.uniform(1, 6)
            return
        _drop("-A", self._address)
        self._silent = True
        for client in self._clients:
            all_of_them.ends[client.kind, "vanished"] += 1
            client.connection.close()
        self._clients = []
        self._next = time.monotonic() + GONE_SECONDS

    def end(self) -> None:
        if self._silent:
            _drop("-D", self._address)
            self._silent = False


def _drop(what: str, address: str) -> None:
    for way in ("-s", "-d"):
        command = ["iptables", "-w", what, "INPUT", way, address, "-j", "DROP"]
        subprocess.run(command, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, default=AT_ONCE)
    parser.add_argument("--stay", action="store_true", help="nobody vanishes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    os.nice(5)
    parts = urlsplit(given.url)
    target = Target(str(parts.hostname), parts.port or 80, given.token)
    target.make_result()
    print("ready", flush=True)
    stallers = Stallers(target, given.clients, given.stay, random.Random(given.seed))
    stallers.run(given.seconds)
    for (kind, end), count in sorted(stallers.ends.items()):
        print(f"{kind}\t{end}\t{count}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
