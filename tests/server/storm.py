"""Thousands of hostile gRPC streams while honest clients work: no honest edit may be lost.

    scripts/soak --storm [--streams 20000] [--header half|none|all]

Attackers are processes of their own (tests/server/attackers.py): refused, cancelled, several edits
on one stream, connections closed and clients killed with streams open. Honest clients
(tests/server/crowd.py) know the right bytes of every edit. Exits with 1 when an honest edit was
lost or wrong. It ends early where the service has ended or answers nobody any more.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import crowd
from .attackers import HEADERS, KILLED, KINDS, NO_SERVER
from .drill import (
    ONE_A_CALL,
    Gateway,
    NotStarted,
    Service,
    Watch,
    busy_cores,
    checkpoint_or_tiny,
    tail,
    told,
)

STREAMS = 20000
SECONDS = 1800.0
PROCESSES = 4
VANISH = 10  # streams of a client that is killed
VANISHING = 0.08  # share of all streams
BATCH = 250  # streams of an attacking process; then a new one goes on
GONE = 120.0  # seconds without any honest edit at home: the service answers nobody


@dataclass
class Streams:
    """How the attackers' streams have ended."""

    ends: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # kind, header, end
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, line: str) -> None:
        kind, header, end = line.rstrip("\n").split("\t")
        with self.lock:
            self.ends[kind, header, end] += 1

    def sent(self) -> int:
        """Streams that have reached the server."""
        with self.lock:
            return sum(count for (*_, end), count in self.ends.items() if end != NO_SERVER)

    def table(self) -> str:
        lines = [f"{'attackers’ streams':<20}{'header':>8}{'streams':>9}  how they ended"]
        for kind in (*KINDS, KILLED):
            for header in ("-", "header"):
                own = Counter(
                    {e: n for (k, h, e), n in self.ends.items() if (k, h) == (kind, header)}
                )
                how = ", ".join(f"{end} {count}" for end, count in own.most_common())
                count = own.total() - own[NO_SERVER]
                if own:
                    lines.append(f"{kind:<20}{header:>8}{count:>9}  {how}")
        return "\n".join(lines)


class Storm:
    """Attackers at work, a few processes at a time, until enough streams were sent."""

    def __init__(self, grpc_url: str, streams: int, header: str, seed: int) -> None:
        self.streams = Streams()
        self.over = threading.Event()
        self._arguments = ("--server", grpc_url, "--header", header)
        self._left, self._rng = streams, random.Random(seed)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._threads = [threading.Thread(target=self._work) for _ in range(PROCESSES)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self.over.set()
        with self._lock:
            for process in self._running:
                process.terminate()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self.over.is_set():
            with self._lock:
                # So that the share of streams is right, though a batch has more of them.
                odds = VANISHING / VANISH
                odds /= odds + (1 - VANISHING) / BATCH
                vanish = self._rng.random() < odds
                size = min(self._left, VANISH if vanish else BATCH)
                self._left -= size
                seed = self._rng.randrange(2**31)
            if size <= 0:
                return
            reached = self._batch(size, vanish, seed)
            with self._lock:
                self._left += max(0, size - reached)

    def _batch(self, size: int, vanish: bool, seed: int) -> int:
        """Runs one attacking process; how many of its streams have reached the server."""
        command = [sys.executable, "-m", "tests.server.attackers", *self._arguments]
        command += ["--streams", str(size), "--seed", str(seed), *(["--vanish"] if vanish else [])]
        reached = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            with self._lock:
                self._running.add(process)
                if self.over.is_set():
                    process.terminate()
            assert process.stdout
            for line in process.stdout:
                if line.count("\t") == 2 and line.endswith("\n"):
                    self.streams.read(line)
                    reached += not line.endswith(f"{NO_SERVER}\n")
        with self._lock:
            self._running.discard(process)
        if not reached:
            self.over.wait(0.5)
        return reached


@dataclass(frozen=True)
class Report:
    """What a storm has shown."""

    streams: Streams
    deliveries: list[crowd.Delivery]
    seconds: float
    stopped: str  # why it ended early; "" where it did not
    watch: Watch
    said: list[str]  # the service's lines of restarts
    counted: int | None  # /metrics
    log: str

    def broken(self) -> list[str]:
        wrong = [f"ended early: {self.stopped}"] if self.stopped else []
        lost = crowd.lost(self.deliveries)
        if lost:
            wrong.append(f"{len(lost)} of {len(self.deliveries)} honest edits were lost or wrong")
        if not self.deliveries:
            wrong.append("no honest edit was made")
        return wrong

    def table(self) -> str:
        sent = self.streams.sent()
        counted = "not counted" if self.counted is None else self.counted
        seen = ", ".join(f"{name} {len(pids)}" for name, pids in self.watch.seen.items())
        return "\n".join(
            [
                f"{sent} streams in {self.seconds:.0f} s ({sent / self.seconds:.1f} a second)",
                "",
                self.streams.table(),
                "",
                crowd.table(self.deliveries),
                "",
                f"processes seen: {seen}; restarts: {len(self.said)} said, {counted} in /metrics",
            ]
        )


def storm(
    service: Service,
    gateway: Gateway,
    streams: int,
    *,
    seconds: float = SECONDS,
    header: str = "half",
    seed: int = 0,
) -> Report:
    """Honest edits and attacks at the same time against a service that runs."""
    edits = crowd.edits_of(service.grpc_url)
    clients = crowd.four(service.grpc_url, gateway.url)
    watch, attackers = Watch(), Storm(service.grpc_url, streams, header, seed)
    began, stopped, shown = time.monotonic(), "", 0.0
    with crowd.Crowd(edits, clients, seed) as honest:
        attackers.start()
        try:
            while not attackers.done() and not stopped:
                time.sleep(0.2)
                watch.look(service)
                now = time.monotonic()
                if not service.runs:
                    stopped = "the service has ended"
                elif now - max(began, honest.last_home()) > GONE:
                    stopped = f"no honest edit has come home for {GONE:.0f} s"
                elif now - began > seconds:
                    stopped = f"the time was up ({seconds:.0f} s)"
                if now - shown > 30:
                    shown = now
                    _show(attackers.streams.sent(), honest.deliveries, now - began)
        finally:
            attackers.stop()
        took = time.monotonic() - began
    return Report(
        streams=attackers.streams,
        deliveries=honest.deliveries,
        seconds=took,
        stopped=stopped,
        watch=watch,
        said=service.said_restarts(),
        counted=service.restarts(),
        log=tail(service.log_file),
    )


def _show(sent: int, deliveries: Sequence[crowd.Delivery], seconds: float) -> None:
    lost = len(crowd.lost(deliveries))
    text = f"{seconds:5.0f} s: {sent} streams, {len(deliveries)} honest edits, {lost} lost"
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak --storm", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--streams", type=int, default=STREAMS, help=f"({STREAMS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"bound ({SECONDS:.0f})")
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    parser.add_argument(
        "--header", choices=HEADERS, default="half", help="who sends triton_grpc_error (half)"
    )
    parser.add_argument("--busy-cores", type=int, default=1, help="processes that spin (1)")
    parser.add_argument("--nice", type=int, default=0, help="niceness of those (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="keep Triton's log here")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        log = given.log or Path(folder) / "triton.log"
        try:
            with (
                checkpoint_or_tiny(given.checkpoint) as checkpoint,
                Service(checkpoint, log, *ONE_A_CALL) as service,
                Gateway(service.grpc_url, service.metrics_url) as gateway,
                busy_cores(given.busy_cores, given.nice),
            ):
                report = storm(
                    service,
                    gateway,
                    given.streams,
                    seconds=given.seconds,
                    header=given.header,
                    seed=given.seed,
                )
        except NotStarted as error:
            print(f"not started: {error}", file=sys.stderr)
            return 1
    return told(report, service, gateway)


if __name__ == "__main__":
    sys.exit(main())
