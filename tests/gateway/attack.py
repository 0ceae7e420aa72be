"""A gateway under attack, and honest clients beside it.

    python -m tests.gateway.attack [--seconds 20] [--only NAME ...] [--url URL --pid PID]

Each attack comes from addresses of its own on loopback, for some seconds, from processes with less
right to the cores. Printed for each: the slowest /health, the most memory of the gateway, an honest
edit's time beside it and alone, and what the attacker heard. Exits with 1 when a promise is broken.
With --url and --pid a gateway that runs already is attacked, such as one of another version.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
import soundfile
from requests.adapters import HTTPAdapter

from ..server.drill import Gateway, Service, checkpoint_or_tiny, tail

SECONDS = 20.0
HEALTH_SECONDS = 1.0  # within which /health answers beside any attack
SLOWER = 2.0  # times as long as alone an honest edit may take
MIB = 2**20


class _From(HTTPAdapter):
    """Requests from an address of one's own."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named, source_address=(self._address, 0))


def session_from(address: str) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.mount("http://", _From(address))
    return made


def wav(seconds: float, pitch: float = 220.0, rate: int = 44100) -> bytes:
    buffer = io.BytesIO()
    tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    soundfile.write(buffer, np.stack([tone, tone], 1), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def encoded(kind: str, codec: str, seconds: int, rate: int, channels: int) -> bytes:
    """A file of silence that unpacks to far more than it is."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        layout = "stereo" if channels == 2 else "7.1"
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        sample_format = stream.codec_context.codec.audio_formats[0].name
        block = av.AudioFrame(format=sample_format, layout=layout, samples=1024)
        for plane in block.planes:
            plane.update(bytes(plane.buffer_size))
        block.sample_rate = rate
        for number in range(seconds * rate // 1024):
            block.pts = number * 1024
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return buffer.getvalue()


Heard = Counter[str]
# Prepares, is then sent the time.time() until which it goes on, and returns what it heard.
Attack = Callable[[str, str], Generator[None, float, Heard]]


def _post(url: str, address: str, until: float, path: str, bodies: Sequence[bytes]) -> Heard:
    """The same bodies again and again, from several threads."""
    heard: Heard = Counter()
    lock = threading.Lock()

    def work(body: bytes) -> None:
        client = session_from(address)
        while time.time() < until:
            try:
                answer = client.post(
                    url + path,
                    data=body,
                    headers={"Content-Type": "application/json"},
                    timeout=until + 60 - time.time(),
                )
                said = str(answer.status_code)
                if answer.status_code in (429, 503):
                    time.sleep(0.5)
            except requests.RequestException as error:
                said = type(error).__name__
            with lock:
                heard[said] += 1

    threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard


def _edits(files: Sequence[bytes]) -> list[bytes]:
    return [
        json.dumps(
            {
                "audio": base64.b64encode(data).decode(),
                "variation": "celtic",
                "steps": 1,
                "timeout_s": 20,
            }
        ).encode()
        for data in files
    ]


def unpacked_files(url: str, address: str) -> Generator[None, float, Heard]:
    """Small files that are ten minutes of silence."""
    ogg = encoded("ogg", "libopus", 590, 48000, 2)
    wavpack = encoded("wv", "wavpack", 300, 192000, 2)
    until = yield
    return _post(url, address, until, "/transform", _edits([ogg] * 4 + [wavpack] * 4))


def slow_files(url: str, address: str) -> Generator[None, float, Heard]:
    """FLACs with eight channels at the highest rate, which take long to decode."""
    flac = encoded("flac", "flac", 60, 192000, 8)
    until = yield
    return _post(url, address, until, "/transform", _edits([flac] * 6))


def lists_of_lists(url: str, address: str) -> Generator[None, float, Heard]:
    body = b'{"audio": [' + b"[]," * (54 * MIB // 3) + b"[]]}"
    until = yield
    return _post(url, address, until, "/transform", [body] * 3)


def long_names(url: str, address: str) -> Generator[None, float, Heard]:
    body = b'{"' + b"k" * (48 * MIB) + b'": 1}'
    until = yield
    return _post(url, address, until, "/transform/stream", [body] * 3)


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
    until = yield
    while time.time() < until:
        if len(held) < 900:
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


def _edited(client: requests.Session, url: str, name: str) -> None:
    """A session with a result of 12 s."""
    body = {"audio_data": base64.b64encode(wav(12)).decode(), "variation": "celtic", "steps": 1}
    begun = client.post(f"{url}/api/juce/transform_audio", json={**body, "session_id": name})
    begun.raise_for_status()
    poll = f"{url}/api/juce/poll_status/{name}"
    while '"completed"' not in (said := client.get(poll).text[-300:]):
        if '"failed"' in said:
            raise RuntimeError(said)
        time.sleep(0.2)


def unread_results(url: str, address: str) -> Generator[None, float, Heard]:
    """Asks for a result of 12 s again and again, and reads nothing of it."""
    name = f"unread-{os.getpid()}"
    _edited(session_from(address), url, name)
    heard: Heard = Counter()
    poll = f"/api/juce/poll_status/{name}"
    host, port = urlsplit(url).hostname, urlsplit(url).port
    held = []
    until = yield
    while time.time() < until:
        if len(held) >= 250:
            time.sleep(0.2)
            continue
        asking = socket.socket()
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with suppress(OSError):
            asking.bind((address, 0))
            asking.connect((host, port))
            asking.sendall(f"GET {poll} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        held.append(asking)
    for asking in held:
        asking.setblocking(False)
        try:
            piece = asking.recv(20)
            heard[piece[9:12].decode() or "closed"] += 1
        except OSError as error:
            heard[type(error).__name__] += 1
        asking.close()
    return heard


def unread_undos(url: str, address: str) -> Generator[None, float, Heard]:
    """A socket that asks for its original again and again, and reads nothing."""
    from websockets.sync.client import connect

    name = f"undone-{os.getpid()}"
    _edited(session_from(address), url, name)
    heard: Heard = Counter()
    parts = urlsplit(url)
    until = yield
    while time.time() < until:
        try:
            with connect(
                f"ws://{parts.netloc}/socket.io/?EIO=4&transport=websocket",
                source_address=(address, 0),
                max_size=None,
                close_timeout=1,
            ) as asking:
                asking.recv()
                asking.send("40")
                asking.recv()
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
            opened = client.get(f"{url}/socket.io/?EIO=4&transport=polling", timeout=30).text
            sid = json.loads(opened[1:])["sid"]
            poll = f"{url}/socket.io/?EIO=4&transport=polling&sid={sid}"
            client.post(poll, data="40", timeout=30)
            heard[str(client.post(poll, data=message, timeout=60).status_code)] += 1
        except (requests.RequestException, ValueError) as error:
            heard[type(error).__name__] += 1
            time.sleep(0.3)
    return heard


ATTACKS: dict[str, Attack] = {
    "files that unpack": unpacked_files,
    "slow files": slow_files,
    "lists of lists": lists_of_lists,
    "long names": long_names,
    "half sent": half_sent,
    "unread results": unread_results,
    "unread undos": unread_undos,
    "large polls": large_polls,
}


@dataclass
class Row:
    """What was seen beside one attack. Seconds, and bytes."""

    name: str
    health: float
    memory: int
    edit: float
    heard: Heard
    failures: list[str] = field(default_factory=list)


def memory_of(pid: int, *, reset: bool = False) -> int:
    """The most memory that a process has taken since the last reset, in bytes."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def _attacker(name: str, url: str, address: str, seconds: float, ready: Any, heard: Any) -> None:
    os.nice(10)
    going = ATTACKS[name](url, address)
    next(going)
    ready.set()
    try:
        going.send(time.time() + seconds)
    except StopIteration as end:
        heard.put(end.value)


@contextmanager
def attacked(name: str, url: str, seconds: float) -> Iterator[Heard]:
    """An attack goes on; what it heard is there once it is over."""
    heard: Heard = Counter()
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    ready = context.Event()
    address = f"127.0.0.{2 + list(ATTACKS).index(name)}"
    process = context.Process(target=_attacker, args=(name, url, address, seconds, ready, answers))
    process.start()
    try:
        if not ready.wait(120):
            raise RuntimeError(f"{name}: the attack did not begin")
        yield heard
    finally:
        process.join(seconds + 90)
        if process.is_alive():
            process.kill()
        else:
            with suppress(Exception):
                heard.update(answers.get(timeout=5))


def honest_edit(client: requests.Session, url: str, number: int) -> float:
    """Seconds of an edit of one second; raises for any answer but a result."""
    body = {
        "audio": base64.b64encode(wav(1.0, 200 + number)).decode(),
        "variation": "celtic",
        "steps": 4,
    }
    started = time.monotonic()
    answer = client.post(f"{url}/transform", json=body, timeout=120)
    answer.raise_for_status()
    return time.monotonic() - started


def beside(name: str | None, url: str, pid: int, seconds: float) -> Row:
    """Honest clients for some seconds, beside an attack or alone (None)."""
    memory_of(pid, reset=True)
    slowest, times, failures = 0.0, [], []
    over = threading.Event()

    def look() -> None:
        nonlocal slowest
        client = session_from("127.0.0.1")
        while not over.is_set():
            started = time.monotonic()
            try:
                answer = client.get(f"{url}/health", timeout=60)
                if answer.status_code != 200:
                    failures.append(f"/health: {answer.status_code} {answer.json()['error']}")
            except requests.RequestException as error:
                failures.append(f"/health: {type(error).__name__}")
            slowest = max(slowest, time.monotonic() - started)
            over.wait(0.25)

    looking = threading.Thread(target=look)
    looking.start()
    client = session_from("127.0.0.1")
    with attacked(name, url, seconds) if name else nullcontext(Counter()) as heard:
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            try:
                times.append(honest_edit(client, url, number := number + 1))
            except requests.RequestException as error:
                failures.append(f"edit: {error}"[:200])
                time.sleep(0.5)
            time.sleep(0.2)
    over.set()
    looking.join()
    middle = statistics.median(times) if times else float("inf")
    return Row(name or "none", slowest, memory_of(pid), middle, heard, failures)


def table(rows: list[Row], most: int | None) -> str:
    lines = [
        "| attack | slowest /health, s | most memory, MiB | honest edit, s (times alone) | heard |",
        "|---|---|---|---|---|",
    ]
    alone = rows[0].edit
    for row in rows:
        heard = ", ".join(f"{said}: {count}" for said, count in row.heard.most_common(6))
        lines.append(
            f"| {row.name} | {row.health:.2f} | {row.memory / MIB:.0f} | "
            f"{row.edit:.2f} ({row.edit / alone:.1f}) | {heard} |"
        )
    if most is not None:
        lines.append(f"\nThe bound that follows from the settings: {most / MIB:.0f} MiB.")
    return "\n".join(lines)


def broken(rows: list[Row], most: int | None) -> list[str]:
    promises = []
    for row in rows:
        if row.health > HEALTH_SECONDS:
            promises.append(f"{row.name}: /health took {row.health:.2f} s")
        if row.edit > SLOWER * rows[0].edit:
            promises.append(f"{row.name}: an edit took {row.edit / rows[0].edit:.1f} times as long")
        if most is not None and row.memory > most:
            promises.append(f"{row.name}: {row.memory / MIB:.0f} MiB")
        promises += [f"{row.name}: {failure}" for failure in row.failures[:3]]
    return promises


def most_bytes(url: str) -> int | None:
    """The bound that a gateway tells; None for an earlier version."""
    for line in session_from("127.0.0.1").get(f"{url}/metrics").text.splitlines():
        if line.startswith("melodyflow_gateway_most_bytes "):
            return round(float(line.split()[1]))
    return None


def attack(url: str, pid: int, names: Sequence[str], seconds: float) -> int:
    """All attacks, one after the other; prints the table and what is broken. -> the exit code."""
    rows = [beside(None, url, pid, min(seconds, 10.0))]
    for name in names:
        rows.append(beside(name, url, pid, seconds))
        print(f"{name}: done", file=sys.stderr, flush=True)
        time.sleep(2)
    most = most_bytes(url)
    print(table(rows, most))
    failed = broken(rows, most)
    for promise in failed:
        print(f"BROKEN: {promise}")
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/attack", description=(__doc__ or "").strip())
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each attack")
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--checkpoint", type=Path, help="default: the tests' tiny random one")
    parser.add_argument("--url", help="of a gateway that runs already")
    parser.add_argument("--pid", type=int, help="of its process")
    arguments = parser.parse_args(words)
    if arguments.url:
        return attack(arguments.url, arguments.pid, arguments.only, arguments.seconds)
    with (
        checkpoint_or_tiny(arguments.checkpoint) as checkpoint,
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
    ):
        log = Path(folder) / "triton.log"
        with Service(checkpoint, log) as service, Gateway(service) as gateway:
            code = attack(gateway.url, gateway.process.pid, arguments.only, arguments.seconds)
            if code:
                print(gateway.complaints(), tail(log), sep="\n")
            return code


if __name__ == "__main__":
    sys.exit(main())
