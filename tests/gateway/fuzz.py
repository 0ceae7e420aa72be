"""Bytes that are nearly right, sent to a gateway and to Triton: no 500, no traceback, no growth.

    scripts/fuzz [--seconds 60] [--seed 0]

Takes requests, forms, Socket.IO packets and WebSocket frames that are right, changes some of their
bytes, and looks at what comes back. What was answered with a 500 is kept in a file. The same seed
gives the same bytes.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..server.drill import STUB, TRITON, Gateway, Service, checkpoint_or_tiny, tail
from ..server.soak import resident
from .nearly_right import FRAMES, HTTP, PACKETS, TRITONS, UPGRADE, mutated, request

THREADS = 8
WARM = 0.25  # of the inputs; memory and descriptors are compared from there on
GROWTH = 64 * 2**20  # bytes, what allocators keep
MORE_DESCRIPTORS = 4
# Triton's own words for JSON that it can't read, which it answers with 500.
UNREAD = (b"failed to parse the request JSON", b"Unable to parse '")
ANSWER_SECONDS = 0.4  # what takes longer isn't waited for


def ask(address: tuple[str, int], sent: Sequence[bytes]) -> bytes:
    """What is answered to some bytes, sent one after the other; the beginning of it."""
    got = b""
    with socket.socket() as client, suppress(OSError):
        client.settimeout(5)
        client.connect(address)
        for piece in sent:
            client.settimeout(5)
            client.sendall(piece)
            client.settimeout(ANSWER_SECONDS)
            while piece := client.recv(2**16):
                got = (got + piece)[: 2**16]
                if len(sent) > 1:
                    break
    return got


def statuses(answer: bytes) -> list[str]:
    return [code.decode() for code in re.findall(rb"^HTTP/1\.1 (\d{3})", answer, re.MULTILINE)]


Kind = Callable[[random.Random], list[bytes]]


@dataclass
class Fuzzer:
    """A gateway, and Triton where its HTTP port is known."""

    gateway: tuple[str, int]
    triton: tuple[str, int] | None = None
    heard: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, bytes]] = field(default_factory=list)  # the answer's kind, what was sent

    def one(self, seed: str) -> None:
        rng = random.Random(seed)
        kind = rng.choice(
            ("http", "http", "packets", "frames", *(["triton"] if self.triton else []))
        )
        address = self.gateway
        if kind == "http":
            sent = [mutated(rng, HTTP)]
        elif kind == "frames":
            sent = [UPGRADE, mutated(rng, FRAMES)]
        elif kind == "triton":
            assert self.triton
            address, sent = self.triton, [mutated(rng, TRITONS)]
        else:
            sid = re.search(rb'"sid":"([^"]+)"', ask(address, [HTTP[-2]]))
            query = f"EIO=4&transport=polling&sid={sid[1].decode() if sid else 'none'}"
            body = mutated(rng, PACKETS) or b"3"
            sent = [
                request(f"POST /socket.io/?{query}", b"40"),
                request(f"POST /socket.io/?{query}", body, "text/plain"),
            ]
            for piece in sent:
                self._judge(kind, piece, ask(address, [piece]))
            ask(address, [request(f"POST /socket.io/?{query}", b"1", "text/plain")])
            return
        self._judge(kind, b"".join(sent), ask(address, sent))

    def _judge(self, kind: str, sent: bytes, answer: bytes) -> None:
        codes = statuses(answer) or ["nothing"]
        self.heard.update(f"{kind} {code}" for code in codes)
        if kind == "triton" and any(words in answer for words in UNREAD):
            return
        # A stream has begun with 200 when its edit fails.
        if "500" in codes or b"internal error" in answer or b"Traceback" in answer:
            self.wrong.append((f"{kind}: {answer[:300]!r}", sent))

    def run(self, seeds: Sequence[str]) -> None:
        """All of them, from several threads."""
        waiting, lock = iter(seeds), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    seed = next(waiting, None)
                if seed is None:
                    return
                self.one(seed)

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def held(pid: int) -> tuple[int, int]:
    """Memory in bytes, and descriptors, of a process."""
    return resident(pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=(__doc__ or "").strip())
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"), help="for what was wrong")
    given = parser.parse_args(words)
    os.nice(10)
    with (
        checkpoint_or_tiny(None) as checkpoint,
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
    ):
        log = Path(folder) / "triton.log"
        with Service(checkpoint, log) as service, Gateway(service) as gateway:
            code = _fuzz(service, gateway, given.seconds, given.seed, given.keep)
            if code:
                print(gateway.complaints(), service.said(), tail(log), sep="\n")
            return code


def _fuzz(service: Service, gateway: Gateway, seconds: float, seed: int, keep: Path) -> int:
    fuzzer = Fuzzer(_address(gateway.url), _address(f"http://{service.http_url}"))
    began, number = time.monotonic(), 0
    pids = {
        "gateway": gateway.process.pid,
        TRITON: service.member(TRITON),
        STUB: service.member(STUB),
    }
    before: dict[str, tuple[int, int]] = {}
    while (elapsed := time.monotonic() - began) < seconds:
        if not before and elapsed > WARM * seconds:
            before = {name: held(pid) for name, pid in pids.items() if pid}
        fuzzer.run([f"{seed} {number + n}" for n in range(400)])
        number += 400
        print(
            f"{elapsed:.0f} s: {number} inputs, {len(fuzzer.wrong)} wrong",
            file=sys.stderr,
            flush=True,
        )
    time.sleep(15)  # until what was left open is closed
    broken = []
    for name, (memory, descriptors) in before.items():
        pid = pids[name]
        if pid is None or not Path(f"/proc/{pid}/exe").exists():
            broken.append(f"{name} has ended")
            continue
        now = held(pid)
        print(
            f"{name}: {memory >> 20} MiB, {descriptors} descriptors; "
            f"at the end {now[0] >> 20} MiB, {now[1]} descriptors"
        )
        if now[0] > memory + GROWTH or now[1] > descriptors + MORE_DESCRIPTORS:
            broken.append(f"{name} has grown")
    broken += [
        f"the gateway's log: {line[:400]}" for line in gateway.stderr if "traceback" in line
    ][:5]
    for number_of, (answer, sent) in enumerate(fuzzer.wrong):
        keep.mkdir(exist_ok=True)
        (keep / str(number_of)).write_bytes(sent)
        broken.append(f"{keep / str(number_of)}: {answer}")
    print(f"{number} inputs in {time.monotonic() - began:.0f} s")
    for said, count in sorted(fuzzer.heard.items()):
        print(f"{said:<20}{count:>8}")
    for promise in broken:
        print(f"BROKEN: {promise}")
    return 1 if broken else 0


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
