"""Bytes that are nearly right, sent to a gateway and to Triton: no 500, no traceback, no growth.

    scripts/fuzz [--seconds 60] [--seed 0]

Takes requests, forms, Socket.IO packets, WebSocket frames and gRPC messages that are right, changes
some of their bytes, and looks at what comes back. What was answered with a 500 is kept in a file.
The same seed gives the same bytes.
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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tritonclient.grpc.service_pb2 import ModelStreamInferResponse

from ..server.drill import STUB, TRITON, Gateway, Service, checkpoint_or_tiny, tail
from ..server.soak import resident
from .nearly_right import FRAMES, HTTP, MESSAGES, PACKETS, TRITONS, UPGRADE, mutated, request

THREADS, BATCH = 8, 400
WARM = 0.25  # of the inputs; memory and descriptors are compared from there on
GROWTH = 64 * 2**20  # bytes, what allocators keep
MORE_DESCRIPTORS = 4  # than at the start
# Triton's own words for JSON that it can't read, which it answers with 500.
UNREAD = (
    b"failed to parse the request JSON",
    b"Unable to parse '",
    b"was not found in the JSON",  # a name with a NUL
)
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
GRPC_SECONDS = 20.0
ANSWER_SECONDS = 0.4  # what takes longer isn't waited for
CLOSED_SECONDS = 20.0  # until the gateway has closed what was left open


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


@dataclass
class Fuzzer:
    """A gateway, and Triton's two ports."""

    gateway: tuple[str, int]
    triton: tuple[str, int]
    grpc: str
    heard: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, bytes]] = field(default_factory=list)  # the answer's kind, what was sent

    def one(self, seed: str) -> None:
        """Sends one input, which the seed determines."""
        rng = random.Random(seed)
        kind = rng.choice(("http", "http", "packets", "frames", "triton", "grpc"))
        if kind == "packets":
            self._poll(mutated(rng, PACKETS) or b"3")
            return
        if kind == "grpc":
            self._stream(mutated(rng, MESSAGES))
            return
        address, sent = self.gateway, [mutated(rng, TRITONS if kind == "triton" else HTTP)]
        if kind == "frames":
            sent = [UPGRADE, mutated(rng, FRAMES)]
        elif kind == "triton":
            address = self.triton
        self._judge(kind, b"".join(sent), ask(address, sent))

    def _stream(self, message: bytes) -> None:
        """Sends one message to Triton's gRPC port, on a stream of its own."""
        with grpc.insecure_channel(self.grpc) as channel:
            call = channel.stream_stream(STREAM)(iter([message]), timeout=GRPC_SECONDS)
            try:
                errors = [ModelStreamInferResponse.FromString(said).error_message for said in call]
                said = next(filter(None, errors), "[OK]")
            except grpc.RpcError as error:
                said = f"{error.details()} [{error.code().name}]"
        code = re.search(r"\[([A-Z_]+)\]$", said)
        self.heard[f"grpc {code[1] if code else 'refused'}"] += 1
        if said.endswith(("[INTERNAL]", "[UNKNOWN]", "[UNAVAILABLE]")) or "Traceback" in said:
            self.wrong.append((f"grpc: {said[:300]}", message))

    def _poll(self, body: bytes) -> None:
        """Opens a Socket.IO connection by polling, sends a body, and closes it."""
        opened = ask(self.gateway, [request("GET /socket.io/?EIO=4&transport=polling")])
        sid = re.search(rb'"sid":"([^"]+)"', opened)
        line = f"POST /socket.io/?EIO=4&transport=polling&sid={sid[1].decode() if sid else ''}"
        for part in (b"40", body):
            sent = request(line, part, "text/plain")
            self._judge("packets", sent, ask(self.gateway, [sent]))
        ask(self.gateway, [request(line, b"1", "text/plain")])

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
        with (
            Service(checkpoint, log) as service,
            Gateway(service.grpc_url, service.metrics_url) as gateway,
        ):
            code = _fuzz(service, gateway, given.seconds, given.seed, given.keep)
            if code:
                print(gateway.complaints(), service.said(), tail(log), sep="\n")
            return code


def _fuzz(service: Service, gateway: Gateway, seconds: float, seed: int, keep: Path) -> int:
    triton = _address(f"http://{service.http_url}")
    fuzzer = Fuzzer(_address(gateway.url), triton, service.grpc_url)
    began, number = time.monotonic(), 0
    members = {TRITON: service.member(TRITON), STUB: service.member(STUB)}
    pids = {"gateway": gateway.process.pid} | {name: pid for name, pid in members.items() if pid}
    first = {name: held(pid) for name, pid in pids.items()}
    warm: dict[str, int] = {}  # memory
    while (elapsed := time.monotonic() - began) < seconds:
        if not warm and elapsed > WARM * seconds:
            warm = {name: held(pid)[0] for name, pid in pids.items()}
        fuzzer.run([f"{seed} {number + n}" for n in range(BATCH)])
        number += BATCH
        told = f"{elapsed:.0f} s: {number} inputs, {len(fuzzer.wrong)} wrong"
        print(told, file=sys.stderr, flush=True)
    time.sleep(CLOSED_SECONDS)
    broken = []
    for name, pid in pids.items():
        if not Path(f"/proc/{pid}/exe").exists():
            broken.append(f"{name} has ended")
            continue
        memory, descriptors = held(pid)
        mib = f"{warm[name] >> 20} MiB, at the end {memory >> 20}"
        print(f"{name}: {mib}; {first[name][1]} descriptors, at the end {descriptors}")
        if memory > warm[name] + GROWTH or descriptors > first[name][1] + MORE_DESCRIPTORS:
            broken.append(f"{name} has grown")
    tracebacks = [line[:400] for line in gateway.stderr if "traceback" in line]
    broken += [f"the gateway's log: {line}" for line in tracebacks[:5]]
    for count, (answer, sent) in enumerate(fuzzer.wrong):
        keep.mkdir(exist_ok=True)
        (keep / str(count)).write_bytes(sent)
        broken.append(f"{keep / str(count)}: {answer}")
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
