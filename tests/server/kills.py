"""Kills in random order while honest clients work: the service comes back, and no edit is lost.

    scripts/soak --kills [30]

Each kill is SIGKILL or SIGSTOP of tritonserver or of the model's process. The next one follows when
the service is ready again and every client has got an edit that it began after that. Exits with 1
when an edit was lost, wrong or delivered twice, when the service did not come back, or when it was
restarted though nobody had killed it.
"""

import argparse
import http.client
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from . import crowd, raw
from .drill import (
    ONE_A_CALL,
    STUB,
    TRITON,
    Gateway,
    NotStarted,
    Service,
    Watch,
    busy_cores,
    checkpoint_or_tiny,
    eventually,
    tail,
    told,
)

KILLS = 30
BACK = 120.0  # seconds that the service may be away
HOME = 200.0  # seconds until every client has got an edit after that
QUIET = 15.0  # seconds of honest work without a kill: longer than a heartbeat may be old


@dataclass(frozen=True)
class Kind:
    """Which process gets which signal."""

    target: str
    signal: signal.Signals

    def __str__(self) -> str:
        name = "tritonserver" if self.target == TRITON else "the stub"
        return f"{self.signal.name} of {name}"


KINDS = tuple(Kind(t, s) for t in (TRITON, STUB) for s in (signal.SIGKILL, signal.SIGSTOP))


@dataclass(frozen=True)
class Kill:
    """One kill, and how long the service was away."""

    kind: Kind
    at: float  # time.monotonic()
    ready: float | None  # seconds until another tritonserver was ready; None: never
    home: float | None  # seconds until every client had got an edit begun after that


def plan(kills: int, seed: int, kinds: Sequence[Kind] = KINDS) -> list[Kind]:
    """All kinds equally often, in random order."""
    planned = [kinds[n % len(kinds)] for n in range(kills)]
    random.Random(seed).shuffle(planned)
    return planned


def kill(service: Service, honest: crowd.Crowd, kind: Kind) -> Kill:
    """Kills, and waits until the service is back and at work."""
    victim, old = service.member(kind.target), service.member(TRITON)
    assert victim
    assert old
    at = time.monotonic()
    os.kill(victim, kind.signal)
    if not eventually(lambda: not service.runs or _is_another_ready(service, old), BACK):
        return Kill(kind, at, None, None)
    back = time.monotonic()
    if not service.runs:
        return Kill(kind, at, None, None)
    everybody = len(honest.names)
    came = eventually(lambda: len(honest.home_since(back)) == everybody, HOME)
    return Kill(kind, at, back - at, time.monotonic() - at if came else None)


def _is_another_ready(service: Service, old: int) -> bool:
    pid = service.member(TRITON)
    if pid in (None, old) or service.member(STUB) is None:
        return False
    connection = http.client.HTTPConnection(service.http_url, timeout=5)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", f"/v2/models/{raw.MODEL}/ready")
        return connection.getresponse().status == 200
    return False


@dataclass(frozen=True)
class Report:
    """What the kills have shown."""

    planned: int
    kills: list[Kill]
    deliveries: list[crowd.Delivery]
    watch: Watch
    said: list[str]  # the service's lines of restarts
    counted: int | None  # /metrics
    log: str = field(repr=False)

    @property
    def twice(self) -> int:
        """Results that were delivered more than once."""
        return sum(len(d.heard.results) > 1 for d in self.deliveries)

    @property
    def false_alarms(self) -> int:
        """Servers beyond the first that no kill explains."""
        return len(self.watch.seen[TRITON]) - 1 - len(self.kills)

    def broken(self) -> list[str]:
        wrong = [f"{k.kind}: the service did not come back" for k in self.kills if k.ready is None]
        wrong += [
            f"{k.kind}: not every client got an edit within {HOME:.0f} s"
            for k in self.kills
            if k.ready is not None and k.home is None
        ]
        lost = crowd.lost(self.deliveries)
        if lost:
            wrong.append(f"{len(lost)} of {len(self.deliveries)} honest edits were lost or wrong")
        if self.twice:
            wrong.append(f"{self.twice} results were delivered twice")
        if len(self.kills) != self.planned:
            wrong.append(f"{len(self.kills)} kills of {self.planned}")
        for what, count in (("said", len(self.said)), ("counted in /metrics", self.counted)):
            if count != len(self.kills):
                wrong.append(f"{count} restarts {what}, {len(self.kills)} kills")
        if self.false_alarms > 0:
            wrong.append(f"{self.false_alarms} restarts that nobody asked for")
        return wrong

    def table(self) -> str:
        head = f"{'kill':<26}{'times':>6}{'ready: median s':>17}{'worst s':>9}"
        lines = [f"{head}{'all at work: median s':>23}{'worst s':>9}"]
        for kind in KINDS:
            own = [k for k in self.kills if k.kind == kind]
            if own:
                ready, home = _times([k.ready for k in own]), _times([k.home for k in own])
                lines.append(
                    f"{kind!s:<26}{len(own):>6}{ready[0]:>17}{ready[1]:>9}{home[0]:>23}{home[1]:>9}"
                )
        counted = "not counted" if self.counted is None else self.counted
        lines += [
            "",
            crowd.table(self.deliveries),
            "",
            f"{len(self.kills)} kills; restarts: {len(self.said)} said, {counted} in /metrics",
            f"restarts that nobody asked for: {self.false_alarms}",
            f"results delivered twice: {self.twice}",
        ]
        return "\n".join(lines)


def _times(seconds: Sequence[float | None]) -> tuple[str, str]:
    """Median and worst."""
    known = [s for s in seconds if s is not None]
    worst = f"{max(known):.1f}" if len(known) == len(seconds) else "never"
    return (f"{statistics.median(known):.1f}" if known else "-"), worst


def kills(
    service: Service,
    gateway: Gateway,
    planned: Sequence[Kind],
    *,
    edits: Sequence[crowd.Edit] | None = None,
    clients: Sequence[Callable[[], crowd.Client]] | None = None,
    quiet: float = QUIET,
    seed: int = 0,
) -> Report:
    """The kills, one after the other, against a service that runs; then some quiet work."""
    rng, watch, done = random.Random(seed), Watch(), list[Kill]()
    before = service.restarts() or 0
    said_before = len(service.said_restarts())
    with crowd.Crowd(
        edits or crowd.edits_of(service.grpc_url), clients or _clients(service, gateway), seed
    ) as honest:
        began = time.monotonic()
        eventually(lambda: len(honest.home_since(began)) == len(honest.names), HOME)
        watch.look(service)
        for number, kind in enumerate(planned, start=1):
            time.sleep(rng.uniform(0, 2))
            done.append(kill(service, honest, kind))
            watch.look(service)
            _show(number, done[-1], honest.deliveries)
            if done[-1].home is None:
                break
        else:
            eventually(lambda: watch.look(service) or not service.runs, quiet)
    counted = service.restarts()
    return Report(
        planned=len(planned),
        kills=done,
        deliveries=honest.deliveries,
        watch=watch,
        said=service.said_restarts()[said_before:],
        counted=None if counted is None else counted - before,
        log=tail(service.log_file),
    )


def _clients(service: Service, gateway: Gateway) -> list[Callable[[], crowd.Client]]:
    return [
        *crowd.four(service.grpc_url, gateway.url),
        lambda: crowd.Sdk(service.grpc_url, "SDK 2"),
        lambda: crowd.AsyncSdk(service.grpc_url, "SDK asyncio 2"),
        lambda: crowd.GatewayJson(gateway.url, "gateway JSON 2"),
        lambda: crowd.GatewayEvents(gateway.url, "gateway events 2"),
    ]


def _show(number: int, last: Kill, deliveries: Sequence[crowd.Delivery]) -> None:
    ready = "never" if last.ready is None else f"{last.ready:.1f} s"
    home = "never" if last.home is None else f"{last.home:.1f} s"
    print(
        f"{number}: {last.kind}: ready after {ready}, all at work after {home}; "
        f"{len(deliveries)} honest edits, {len(crowd.lost(deliveries))} lost",
        file=sys.stderr,
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak --kills", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("kills", type=int, nargs="?", default=KILLS, help=f"({KILLS})")
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    parser.add_argument("--busy-cores", type=int, default=1, help="processes that spin (1)")
    parser.add_argument("--nice", type=int, default=0, help="niceness of those (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="keep Triton's log here")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        log = given.log or Path(folder) / "triton.log"
        try:
            with (
                checkpoint_or_tiny(given.checkpoint) as checkpoint,
                Service(checkpoint, log, *ONE_A_CALL) as service,
                Gateway(service.grpc_url, service.metrics_url) as gateway,
                busy_cores(given.busy_cores, given.nice),
            ):
                planned = plan(given.kills, given.seed)
                report = kills(service, gateway, planned, seed=given.seed)
        except NotStarted as error:
            print(f"not started: {error}", file=sys.stderr)
            return 1
    return told(report, service, gateway)


if __name__ == "__main__":
    sys.exit(main())
