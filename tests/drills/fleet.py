"""Servers behind Envoy that are killed, stopped and replaced while edits run: none is lost.

    scripts/drills fleet [--servers 3] [--checkpoint DIR] [NAME...]

All are real: tritonservers as `scripts/serve` starts them, deploy/envoy/envoy.yaml, the SDK. The
right bytes of every edit are known beforehand. Exits with 1 if a promise is broken.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from melodyflow_client import load_presets

from ..deploy.envoy import KEY, Fleet, address_of, binary
from ..server import crowd, raw
from ..server.drill import TRITON, checkpoint_or_tiny, eventually
from ..server.storm import Storm

IN_FLIGHT = "melodyflow_edits_in_flight"
MISSES = 'melodyflow_inversions_total{found="miss"}'
BACK = 90.0  # seconds until a server is taken back
SETTLE = 3.0  # seconds that a change of addresses takes to arrive


class Broken(AssertionError):
    """A promise that wasn't kept."""


def promise(kept: object, text: str) -> None:
    if not kept:
        raise Broken(text)


def edits_of(
    url: str, count: int, steps: int, api_key: str | None = None, *, seconds: float = 0.5
) -> list[crowd.Edit]:
    """Different edits with their right bytes, made at rest."""
    clip = raw.file_of(raw.music(seconds, crowd.RATE, 1), crowd.RATE)
    planned = [crowd.Edit(clip, "a harp", seed, steps) for seed in range(count)]
    with crowd.MelodyFlowClient(url, api_key=api_key) as client:
        return [
            replace(edit, right=client.transform(edit.audio, **edit.options()).audio)
            for edit in planned
        ]


def deliver_all(
    url: str, edits: Sequence[crowd.Edit], api_key: str | None = None
) -> list[crowd.Delivery]:
    """All at once, each by a client of its own."""

    def one(edit: crowd.Edit) -> crowd.Delivery:
        client = crowd.Sdk(url, api_key=api_key)
        try:
            return crowd.deliver(client, edit)
        finally:
            client.close()

    with ThreadPoolExecutor(len(edits)) as pool:
        return list(pool.map(one, edits))


def told(deliveries: Sequence[crowd.Delivery], began: float) -> str:
    again = sum(delivery.heard.again > 0 for delivery in deliveries)
    seconds = max(delivery.began + delivery.seconds for delivery in deliveries) - began
    return f"{len(deliveries)} edits home after {seconds:.1f} s, {again} of them sent again"


def all_right(deliveries: Sequence[crowd.Delivery]) -> None:
    """Each came home once, with its right bytes."""
    promise(deliveries, "no edit was made")
    promise(not crowd.lost(deliveries), crowd.table(deliveries))


def taken_back(fleet: Fleet) -> float:
    """Seconds until Envoy gives edits to all servers again."""
    began = time.monotonic()
    count = len(fleet.servers)
    promise(eventually(lambda: fleet.envoy.healthy() == count, BACK), "a server isn't taken back")
    return time.monotonic() - began


def idle(fleet: Fleet) -> None:
    """Waits until no edit runs: one that another drill has left would be taken for this one's."""
    promise(eventually(lambda: not any(fleet.counted(IN_FLIGHT)), 60), "edits are left over")


def killed(fleet: Fleet, edits: int = 60, steps: int = 24) -> str:
    """One server killed with SIGKILL while its edits run."""
    planned, victims = edits_of(fleet.servers[0].grpc_url, edits, steps), list[int]()
    idle(fleet)

    def kill_the_busiest() -> None:
        promise(eventually(lambda: sum(fleet.counted(IN_FLIGHT)) > 3, 60), "no edit began")
        busy = fleet.counted(IN_FLIGHT)
        pid = fleet.servers[busy.index(max(busy))].member(TRITON)
        if pid:
            os.kill(pid, signal.SIGKILL)
            victims.append(pid)

    killer = threading.Thread(target=kill_the_busiest)
    began = time.monotonic()
    killer.start()
    deliveries = deliver_all(fleet.envoy.url, planned)
    killer.join()
    promise(victims, "nothing was killed")
    all_right(deliveries)
    promise(any(d.heard.again for d in deliveries), "the kill came too late: no edit noticed it")
    return f"{told(deliveries, began)}; taken back {taken_back(fleet):.1f} s later"


def stopped(fleet: Fleet, edits: int = 12, steps: int = 48) -> str:
    """One server and its watcher stopped, as a machine that hangs: its streams end."""
    planned, victim = edits_of(fleet.servers[0].grpc_url, edits, steps), fleet.servers[0]
    pids = [victim.process.pid, *filter(None, [victim.member(TRITON)])]
    idle(fleet)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(deliver_all, fleet.envoy.url, planned)
        promise(eventually(lambda: fleet.counted(IN_FLIGHT)[0] > 0, 60), "no edit began")
        began = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            count = len(fleet.servers)
            promise(eventually(lambda: fleet.envoy.healthy() == count - 1, 60), "it isn't left out")
            ejected = time.monotonic() - began
            deliveries = running.result()
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
    all_right(deliveries)
    promise(any(d.heard.again for d in deliveries), "no stream of the stopped server ended")
    said = f"left out after {ejected:.1f} s; {told(deliveries, began)}"
    return f"{said}; taken back {taken_back(fleet):.1f} s later"


def restarted(
    fleet: Fleet, *, named: bool = True, most: int | None = None, clients: int = 6
) -> str:
    """Each server, or `most` of them, ended by SIGTERM and replaced in turn, under load.

    named: its address is taken out of what Envoy knows first, as Kubernetes does, so that not even
    a client has to send an edit again.
    """
    edits = edits_of(fleet.servers[0].grpc_url, 6, 12)
    open_each = [lambda n=n: crowd.Sdk(fleet.envoy.url, f"SDK {n}") for n in range(clients)]
    with crowd.Crowd(edits, open_each) as honest:
        for number in range(len(fleet.servers))[:most]:
            moment = time.monotonic()
            promise(
                eventually(lambda moment=moment: len(honest.home_since(moment)) == clients, BACK),
                "not every client is at work",
            )
            _replace(fleet, number, named)
            taken_back(fleet)
    all_right(honest.deliveries)
    again = sum(delivery.heard.again > 0 for delivery in honest.deliveries)
    if named:
        promise(again == 0, f"{again} edits had to be sent again")
    return f"{len(honest.deliveries)} edits, {again} of them sent again"


def _replace(fleet: Fleet, number: int, named: bool) -> None:
    """Ends a server, when its edits have, and starts another one at its address."""
    old = fleet.servers[number]
    address = address_of(old)
    if named:
        others = [address_of(server) for server in fleet.servers if server is not old]
        fleet.envoy.set_servers(others)
        time.sleep(SETTLE)
    old.end()
    ports = ("--grpc-port", str(address.grpc), "--http-port", str(address.http))
    fleet.servers[number] = fleet.start_server(number, *ports)
    if named:
        fleet.envoy.set_servers([address_of(server) for server in fleet.servers])


def stormed(fleet: Fleet, streams: int = 2000, seconds: float = 400.0) -> str:
    """Hostile streams, all with the header that ends servers, beside honest clients."""
    edits = crowd.edits_of(fleet.servers[0].grpc_url)
    before = [server.member(TRITON) for server in fleet.servers]
    known = [len(server.said_restarts()) for server in fleet.servers]
    attackers = Storm(fleet.envoy.url, streams, "all", seed=0)
    clients = [lambda: crowd.Sdk(fleet.envoy.url), lambda: crowd.AsyncSdk(fleet.envoy.url)]
    with crowd.Crowd(edits, clients) as honest:
        attackers.start()
        try:
            ended = eventually(attackers.done, seconds)
        finally:
            attackers.stop()
    all_right(honest.deliveries)
    promise(ended, f"{attackers.streams.sent()} streams in {seconds:.0f} s")
    restarts = [
        line
        for server, earlier in zip(fleet.servers, known, strict=True)
        for line in server.said_restarts()[earlier:]
    ]
    same = before == [server.member(TRITON) for server in fleet.servers]
    promise(not restarts and same, f"servers were restarted: {restarts}")
    return (
        f"{attackers.streams.sent()} streams, no server has ended; beside them "
        f"{len(honest.deliveries)} honest edits, none lost\n{attackers.streams.table()}"
    )


def swept(fleet: Fleet, sweeps: int = 5) -> str:
    """Sweeps of ten variations, each of another clip: one inversion for each."""
    moment, ten = time.monotonic(), list(load_presets())[:10]
    before, places = fleet.counted(MISSES), set[int]()
    for number in range(sweeps):
        clip = raw.file_of(raw.music(0.5, crowd.RATE, 1) * (0.9 - number / 10), crowd.RATE)
        then = fleet.counted(MISSES)
        with crowd.MelodyFlowClient(fleet.envoy.url) as client:
            made = list(client.sweep(clip, ten, steps=2))
        promise(all(one.result for one in made), f"a variation failed: {made}")
        added = [now - old for now, old in zip(fleet.counted(MISSES), then, strict=True)]
        promise(sorted(added)[-2:] == [0, 1], f"inversions by server: {added}")
        places.add(added.index(1))
    total = sum(fleet.counted(MISSES)) - sum(before)
    seconds = time.monotonic() - moment
    return (
        f"{sweeps} sweeps of ten, {total:g} inversions, on {len(places)} servers, {seconds:.0f} s"
    )


def carried(fleet: Fleet, megabytes: int = 44) -> str:
    """A large clip there and back, of which a tenth of a second is edited."""
    clip = raw.file_of(raw.music(megabytes * 2**20 / (48000 * 4), 48000, 2), 48000)
    began = time.monotonic()
    made = []
    for url in (fleet.envoy.url, fleet.servers[0].grpc_url):
        with crowd.MelodyFlowClient(url) as client:
            options = {"prompt": "a harp", "seed": 1, "steps": 1, "loudness": "none"}
            made.append(client.transform(clip, start=1.0, end=1.1, **options).audio)
    promise(made[0] == made[1], "Envoy changed the result")
    return f"{len(clip) / 2**20:.0f} MiB each way, twice in {time.monotonic() - began:.1f} s"


DRILLS: dict[str, Callable[[Fleet], str]] = {
    "swept": swept,
    "carried": carried,
    "killed": killed,
    "stopped": stopped,
    "restarted": restarted,
    "ended": lambda fleet: restarted(fleet, named=False),
    "stormed": stormed,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/drills fleet", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DRILLS))
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in DRILLS]
    if unknown:
        parser.error(f"{unknown[0]}: no such drill; there are {', '.join(DRILLS)}")
    try:
        binary()
    except pytest.skip.Exception as why:
        print(f"fleet: SKIPPED: {why}")
        return 0
    os.environ["MELODYFLOW_API_KEY"] = KEY
    broken = 0
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as folder,
        checkpoint_or_tiny(given.checkpoint) as checkpoint,
        Fleet(checkpoint, Path(folder), given.servers) as fleet,
    ):
        for name in given.names or DRILLS:
            began = time.monotonic()
            try:
                print(f"{name}: {DRILLS[name](fleet)}", flush=True)
            except Broken as error:
                broken += 1
                print(f"{name}: BROKEN: {error}", flush=True)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
