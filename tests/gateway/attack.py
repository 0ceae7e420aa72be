"""A gateway under attack, and honest clients beside it.

    python -m tests.gateway.attack [--seconds 20] [--only NAME ...]

Each attack comes from addresses of its own on loopback, for some seconds, from processes with less
right to the cores; in the last row all come at once. Printed for each: the slowest /health, the
most memory of the gateway and of the model's process, an honest edit's time beside it and alone,
and what the attacker heard. Exits with 1 when a promise is broken. With --url and --pid a gateway
that runs already is attacked, such as one of another version.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from ..server.drill import STUB, Gateway, Service, checkpoint_or_tiny, tail
from .attacks import bodies, kinds, sockets
from .attacks.clients import MIB, Attack, Heard, session_from
from .attacks.files import wav

SECONDS = 20.0
HEALTH_SECONDS = 1.0  # within which /health answers beside any attack
SLOWER = 2.0  # times as long as alone an honest edit may take
CLIPS = itertools.count()  # an honest edit's is always new: none is found in the server's cache

ATTACKS: dict[str, Attack] = {
    "files that unpack": bodies.unpacked_files,
    "covers": bodies.covers,
    "slow files": bodies.slow_files,
    "every kind of file": kinds.every_kind,
    "much around files": kinds.much_around,
    "lists of lists": bodies.lists_of_lists,
    "lists in an event": sockets.socket_lists,
    "long names": bodies.long_names,
    "no text": bodies.no_text,
    "half sent": sockets.half_sent,
    "unread results": sockets.unread_results,
    "unread undos": sockets.unread_undos,
    "unread streams": sockets.unread_streams,
    "large polls": sockets.large_polls,
    "known sid": sockets.known_sid,
    "many sids": sockets.many_sids,
    "long edits": bodies.long_edits,
}


@dataclass(frozen=True)
class Target:
    """A gateway, its process, and the model's where that is known."""

    url: str
    pid: int
    model: int | None = None

    @property
    def most(self) -> int | None:
        """The bytes that it tells it takes at most; None for an earlier version."""
        return most_bytes(self.url)


@dataclass
class Row:
    """What was seen beside attacks. Seconds, and bytes; model: 0 where its process is not known."""

    name: str
    health: float
    memory: int
    model: int
    edit: float
    heard: Heard
    failures: list[str] = field(default_factory=list)


def address_of(name: str) -> str:
    """Each attack's own."""
    return f"127.0.0.{2 + list(ATTACKS).index(name)}"


def memory_of(pid: int, *, reset: bool = False) -> int:
    """The most memory that a process has taken since the last reset, in bytes."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def step_back() -> None:
    """Takes only what others leave of the cores, as if it had its own: on a busy machine next to
    nothing. Where Linux shares them among sessions first (autogroup), a process's own niceness
    counts only within its session."""
    os.nice(10)
    os.setsid()
    with suppress(OSError):  # a kernel without
        Path("/proc/self/autogroup").write_text("19")


def _attacker(name: str, url: str, seconds: float, ready: Any, go: Any, heard: Any) -> None:
    step_back()
    going = ATTACKS[name](url, address_of(name))
    next(going)
    ready.release()
    go.wait()
    try:
        going.send(time.time() + seconds)
    except StopIteration as end:
        heard.put(end.value)


@contextmanager
def attacked(names: Sequence[str], url: str, seconds: float) -> Iterator[Heard]:
    """Attacks go on, all at once; what they heard is there once they are over."""
    heard: Heard = Counter()
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    ready, go = context.Semaphore(0), context.Event()
    processes = [
        context.Process(target=_attacker, args=(name, url, seconds, ready, go, answers))
        for name in names
    ]
    for process in processes:
        process.start()
    try:
        if not all(ready.acquire(timeout=120) for _ in names):
            raise RuntimeError(f"{', '.join(names)}: the attack did not begin")
        go.set()
        yield heard
    finally:
        deadline = time.monotonic() + seconds + 90
        for _ in processes:
            with suppress(Exception):
                heard.update(answers.get(timeout=max(0.0, deadline - time.monotonic())))
        for process in processes:
            process.kill()
            process.join()


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


def beside(name: str, attacks: Sequence[str], target: Target, seconds: float) -> Row:
    """Honest clients for some seconds, beside attacks."""
    pids = [target.pid, *([target.model] if target.model else [])]
    for pid in pids:
        memory_of(pid, reset=True)
    slowest, times, failures = 0.0, [], []
    over, url = threading.Event(), target.url

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
    with attacked(attacks, url, seconds) as heard:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                times.append(honest_edit(client, url, next(CLIPS)))
            except requests.RequestException as error:
                failures.append(f"edit: {error}"[:200])
                time.sleep(0.5)
            time.sleep(0.2)
    over.set()
    looking.join()
    middle = statistics.median(times) if times else float("inf")
    memory, *model = map(memory_of, pids)
    return Row(name, slowest, memory, sum(model), middle, heard, failures)


def table(rows: list[Row], most: int | None) -> str:
    lines = [
        "| attack | slowest /health, s | most memory, MiB | of the model, MiB "
        "| honest edit, s (times alone) | heard |",
        "|---|---|---|---|---|---|",
    ]
    alone = rows[0].edit
    for row in rows:
        heard = ", ".join(f"{said}: {count}" for said, count in row.heard.most_common(6))
        lines.append(
            f"| {row.name} | {row.health:.2f} | {row.memory / MIB:.0f} | "
            f"{row.model / MIB:.0f} | "
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


def attack(target: Target, names: Sequence[str], seconds: float, alone: bool) -> int:
    """The attacks, one after the other and all at once; prints the table and what is broken.
    -> the exit code."""
    rows = [beside("none", [], target, min(seconds, 10.0))]
    rounds = [[name] for name in names] + ([] if alone or len(names) == 1 else [list(names)])
    for several in rounds:
        name = several[0] if len(several) == 1 else "all at once"
        rows.append(beside(name, several, target, seconds))
        print(f"{name}: done", file=sys.stderr, flush=True)
        time.sleep(2)
    print(table(rows, target.most))
    failed = broken(rows, target.most)
    for promise in failed:
        print(f"BROKEN: {promise}")
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/attack", description=(__doc__ or "").strip())
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each attack")
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--alone", action="store_true", help="without all at once")
    parser.add_argument("--checkpoint", type=Path, help="default: the tests' tiny random one")
    parser.add_argument("--url", help="of a gateway that runs already")
    parser.add_argument("--pid", type=int, help="of its process")
    parser.add_argument("--model", type=int, metavar="PID", help="of the model's process")
    given = parser.parse_args(words)
    if given.url:
        target = Target(given.url, given.pid, given.model)
        return attack(target, given.only, given.seconds, given.alone)
    with (
        checkpoint_or_tiny(given.checkpoint) as checkpoint,
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
    ):
        log = Path(folder) / "triton.log"
        with (
            Service(checkpoint, log) as service,
            Gateway(service.grpc_url, service.metrics_url) as gateway,
        ):
            target = Target(gateway.url, gateway.process.pid, service.member(STUB))
            code = attack(target, given.only, given.seconds, given.alone)
            if code:
                print(gateway.complaints(), tail(log), sep="\n")
            return code


if __name__ == "__main__":
    sys.exit(main())
