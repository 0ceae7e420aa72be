"""Slow, half-open and vanishing clients of a gateway, and four honest ones beside them.

    scripts/soak --stall [MINUTES] [--clients 200]

200 clients stall in all ways (tests/server/stallers.py), from addresses and with a token of their
own; a quarter of them vanish without a word, which needs root for iptables. Four honest clients
(tests/server/crowd.py) know the right bytes of their edits. Exits with 1 when an honest edit was
lost or refused, when /health failed, or when descriptors or memory have grown.
"""

import argparse
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from . import crowd
from .drill import (
    ONE_A_CALL,
    STUB,
    TRITON,
    Gateway,
    NotStarted,
    Process,
    Service,
    checkpoint_or_tiny,
    eventually,
    tail,
    told,
)
from .soak import resident
from .stallers import AT_ONCE

MINUTES = 30.0
SAMPLE_SECONDS = 5.0
GROWTH = 0.1  # of memory and descriptors, from the second fifth to the last
GONE_SECONDS = 150.0  # until what the clients held is given back
HELD = ("melodyflow_gateway_connections", "melodyflow_gateway_budget_bytes")


@dataclass(frozen=True)
class Sample:
    """What is held at a moment. Memory in bytes."""

    descriptors: int  # of the gateway
    gateway: int
    triton: int
    model: int


def sample(service: Service, gateway: Gateway) -> Sample:
    pid = gateway.process.pid
    members = [service.member(name) for name in (TRITON, STUB)]
    return Sample(
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        resident(pid),
        *(0 if member is None else resident(member) for member in members),
    )


@dataclass
class Watched:
    """/health every half second, and a sample now and then."""

    service: Service
    gateway: Gateway
    health: list[float] = field(default_factory=list)  # seconds
    unwell: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        http, sampled = requests.Session(), 0.0
        http.trust_env = False
        while not self.over.is_set():
            began = time.monotonic()
            try:
                answer = http.get(f"{self.gateway.url}/health", timeout=30)
                if answer.status_code != 200:
                    self.unwell.append(f"{answer.status_code}: {answer.text[:200]}")
            except requests.RequestException as error:
                self.unwell.append(f"{type(error).__name__}")
            self.health.append(time.monotonic() - began)
            if began - sampled > SAMPLE_SECONDS:
                sampled = began
                self.samples.append(sample(self.service, self.gateway))
            self.over.wait(0.5)


@dataclass(frozen=True)
class Report:
    """What a soak has shown."""

    ends: list[str]  # of the stallers: kind, end, count
    deliveries: list[crowd.Delivery]
    watched: Watched
    before: Sample
    after: Sample
    held: dict[str, float]  # at the end, when all have gone
    seconds: float
    log: str

    def broken(self) -> list[str]:
        wrong = []
        lost = crowd.lost(self.deliveries)
        if lost or not self.deliveries:
            wrong.append(f"{len(lost)} of {len(self.deliveries)} honest edits were lost or wrong")
        wrong += [f"/health: {said}" for said in self.watched.unwell[:3]]
        if not self.ends:
            wrong.append("the stalling clients have ended early")
        for name, (early, late) in self._means().items():
            if late > early * (1 + GROWTH):
                wrong.append(f"{name}: {early:.0f}, later {late:.0f}")
        if self.after.descriptors > self.before.descriptors + 8:
            wrong.append(
                f"{self.after.descriptors} descriptors at the end, {self.before.descriptors} before"
            )
        # The one that asks for the metrics is a connection too.
        if any(count > (name == HELD[0]) for name, count in self.held.items()):
            wrong.append(f"held when all have gone: {self.held}")
        return wrong

    def _means(self) -> dict[str, tuple[float, float]]:
        """What was held in the second fifth of the time and in the last one."""
        samples = self.watched.samples
        fifth = len(samples) // 5
        early, late = samples[fifth : 2 * fifth] or samples, samples[-fifth:]
        return {
            name: tuple(statistics.mean(getattr(s, name) for s in part) for part in (early, late))  # type: ignore[misc]
            for name in Sample.__annotations__
        }

    def table(self) -> str:
        *_, late = statistics.quantiles(self.watched.health, n=100)
        slowest = max(self.watched.health)
        lines = [
            f"{self.seconds:.0f} s; /health: 99 % within {late:.2f} s, slowest {slowest:.2f} s"
        ]
        heads = f"{'2nd fifth':>11}{'last fifth':>11}{'most':>10}{'after':>10}"
        lines += ["", f"{'held':<14}{'before':>10}{heads}"]
        for name, (early, late) in self._means().items():
            unit = 1 if name == "descriptors" else 2**20
            most = max(getattr(s, name) for s in self.watched.samples)
            first, last = getattr(self.before, name), getattr(self.after, name)
            lines.append(
                f"{name + ('' if unit == 1 else ', MiB'):<14}{first / unit:>10.0f}"
                f"{early / unit:>11.0f}{late / unit:>11.0f}{most / unit:>10.0f}{last / unit:>10.0f}"
            )
        lines += ["", f"{'stalling client':<34}{'how it ended':<26}{'times':>6}"]
        for line in self.ends:
            kind, end, count = line.rstrip("\n").split("\t")
            lines.append(f"{kind:<34}{end:<26}{count:>6}")
        return "\n".join([*lines, "", crowd.table(self.deliveries)])


def stall(
    service: Service, gateway: Gateway, tokens: list[str], seconds: float, clients: int, stay: bool
) -> Report:
    """tokens: the stallers', and one for each honest client."""
    edits = crowd.edits_of(service.grpc_url)
    theirs, *ours = tokens
    honest = [
        lambda token=token, kind=kind, number=number: kind(
            gateway.url, f"{'events' if kind is crowd.GatewayEvents else 'JSON'} {number}", token
        )
        for number, token in enumerate(ours)
        for kind in [(crowd.GatewayJson, crowd.GatewayEvents)[number % 2]]
    ]
    for make in honest:  # so that what honest edits need has been loaded
        client = make()
        crowd.deliver(client, edits[0])
        client.close()
    time.sleep(2)
    before, watched = sample(service, gateway), Watched(service, gateway)
    began = time.monotonic()
    words = ["--url", gateway.url, "--token", theirs, "--seconds", str(seconds)]
    words += ["--clients", str(clients), *(["--stay"] if stay else [])]
    looking = threading.Thread(target=watched.look)
    with Process("-m", "tests.server.stallers", *words) as stallers:
        stallers.says("ready")
        with crowd.Crowd(edits, honest) as people:
            looking.start()
            shown = began
            while stallers.runs:
                time.sleep(0.5)
                if time.monotonic() - shown > 60:
                    shown = time.monotonic()
                    lost = len(crowd.lost(people.deliveries))
                    edits_told = f"{len(people.deliveries)} honest edits, {lost} lost"
                    print(f"{shown - began:5.0f} s: {edits_told}", file=sys.stderr, flush=True)
        watched.over.set()
        looking.join()
        took = time.monotonic() - began
        ends = [line for line in stallers.stdout if line.count("\t") == 2]
        if not ends:
            print("".join(stallers.stderr), file=sys.stderr)
    held: dict[str, float] = {}

    def empty() -> bool:
        held.update(_held(gateway, theirs))
        return held[HELD[0]] <= 1 and not held[HELD[1]]

    eventually(empty, GONE_SECONDS)
    return Report(
        ends=ends,
        deliveries=people.deliveries,
        watched=watched,
        before=before,
        after=sample(service, gateway),
        held=held,
        seconds=took,
        log=tail(service.log_file),
    )


def _held(gateway: Gateway, token: str) -> dict[str, float]:
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    with requests.Session() as http:
        http.trust_env = False
        text = http.get(f"{gateway.url}/metrics", headers=headers, timeout=30).text
    time.sleep(0.5)
    return {
        name: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        for name in HELD
        if line.startswith(f"{name} ")
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak --stall", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("minutes", type=float, nargs="?", default=MINUTES, help=f"({MINUTES:.0f})")
    parser.add_argument("--clients", type=int, default=AT_ONCE, help=f"that stall ({AT_ONCE})")
    parser.add_argument("--stay", action="store_true", help="nobody vanishes; needs no root")
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    given = parser.parse_args(arguments)
    tokens = [secrets.token_urlsafe(24) for _ in range(5)]
    with tempfile.TemporaryDirectory(prefix="stall-") as folder:
        log = Path(folder) / "triton.log"
        try:
            with (
                checkpoint_or_tiny(given.checkpoint) as checkpoint,
                Service(checkpoint, log, *ONE_A_CALL) as service,
                Gateway(
                    service.grpc_url,
                    service.metrics_url,
                    MELODYFLOW_GATEWAY_TOKENS=",".join(tokens),
                ) as gateway,
            ):
                report = stall(
                    service, gateway, tokens, 60 * given.minutes, given.clients, given.stay
                )
        except NotStarted as error:
            print(f"not started: {error}", file=sys.stderr)
            return 1
    return told(report, service, gateway)


if __name__ == "__main__":
    sys.exit(main())
