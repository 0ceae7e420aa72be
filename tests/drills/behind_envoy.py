"""docker-compose.fleet.yml in containers: two servers behind Envoy, with Redis and Prometheus.

Grafana is left out: its image has no stand-in.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from melodyflow_client import MelodyFlowClient, Refused

from ..deploy.envoy import KEY, write_site
from ..server import crowd
from .clips import GATEWAY, GRPC, PROMPT, ask, by_gateway, by_http, clip
from .drills import (
    BACK_SECONDS,
    LONG,
    SHORT,
    Drill,
    answers,
    check_closed,
    check_limits,
    in_flight,
)
from .engine import docker
from .fleet import deliver_all, edits_of
from .stack import GATEWAY as GATEWAY_SERVICE
from .stack import TRITON, Stack, address, check, eventually, inspect

FILES = ("docker-compose.yml", "docker-compose.fleet.yml")
USERS = {TRITON: 1000, GATEWAY_SERVICE: 1000, "envoy": 1000, "redis": 999, "prometheus": 65534}
MADE = ("envoy", "redis", "prometheus")  # those with stand-ins of their own
TLS, PROMETHEUS = "https://127.0.0.1:8443", "http://127.0.0.1:9090"
END_SECONDS = 120.0  # for a server to end once its edits have: with its exit timeout it takes 180


def fleet_of(stack: Stack, site: Path) -> Stack:
    """The services of both files. site: a new folder, for keys and certificate."""
    write_site(site, [KEY])
    for path in (site, *site.rglob("*")):
        shutil.chown(path, 1000, 1000)
    # As an operator must where the checkout is for its owner alone: these are mounted.
    for path in (stack.folder / "deploy", *(stack.folder / "deploy").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    own = {"MELODYFLOW_SITE": str(site), "MELODYFLOW_API_KEY": KEY}
    return replace(stack, variables={**stack.variables, **own}, files=FILES)


@contextmanager
def up(fleet: Stack) -> Iterator[None]:
    """Has two servers and all else but Grafana healthy."""
    os.environ.pop("MELODYFLOW_API_KEY", None)  # a client without a key has none
    with fleet.up("--scale", f"{TRITON}=2", *USERS):
        states = {
            f"{name} {number}": inspect(container)["State"]["Health"]["Status"]
            for name in USERS
            for number, container in enumerate(fleet.containers(name))
        }
        good = len(states) == len(USERS) + 1 and set(states.values()) == {"healthy"}
        check(good, "all are healthy, and there are two servers", states)
        eventually(lambda: given_edits(fleet) == 2, BACK_SECONDS, "Envoy gives edits to both")
        yield


def given_edits(fleet: Stack) -> int:
    """How many servers Envoy gives edits to."""
    text = ask(f"http://{address(fleet.container('envoy'))}:9902/stats/prometheus")[2].decode()
    [value] = re.findall(r'_membership_healthy\{envoy_cluster_name="grpc"\} (\d+)', text)
    return int(value)


@dataclass(frozen=True)
class Server:
    """A Triton's container."""

    container: str
    metrics: str

    def busy(self) -> float:
        """Edits in flight."""
        return in_flight(self.metrics)


def servers(fleet: Stack) -> list[Server]:
    return [
        Server(container, f"http://{address(container)}:8002/metrics")
        for container in fleet.containers(TRITON)
    ]


def client(fleet: Stack, url: str, key: str | None = KEY) -> MelodyFlowClient:
    certificate = Path(fleet.variables["MELODYFLOW_SITE"]) / "tls/tls.crt"
    return MelodyFlowClient(url, api_key=key, root_certificates=str(certificate))


def fleet_edits(fleet: Stack) -> str:
    """With a key each way gives the same bytes; without one none gives any."""
    audio = clip(2.0)
    key = {"Authorization": f"Bearer {KEY}"}
    plain = f"http://{GRPC}"
    made = {"HTTP": by_http(audio, SHORT, plain, **key), "the gateway": by_gateway(audio, SHORT)}
    for url in (TLS, GRPC):
        with client(fleet, url) as one:
            made[url] = bytes(one.transform(audio, prompt=PROMPT, **SHORT).audio)
    sizes = {name: len(one) for name, one in made.items()}
    check(len(set(made.values())) == 1, "all ways give the same bytes", sizes)
    for url, wrong in product((TLS, GRPC), (None, "wrong", KEY[:-1])):
        with client(fleet, url, wrong) as one:
            try:
                one.transform(audio, prompt=PROMPT, **SHORT)
            except Refused:
                continue
        check(False, f"{url} refuses the key {wrong!r}")
    closed = [ask(f"{plain}/v2/models/melodyflow/ready")[0]]
    closed += [ask(f"{plain}{path}", **key)[0] for path in ("/v2/repository/index", "/metrics")]
    check(closed == [403] * 3, "without a key, and for other APIs, the answer is 403", closed)
    eventually(lambda: logged(fleet).count("client-0") >= 4, 30, "Envoy's log names the key")
    return f"gRPC with and without TLS, HTTP, the gateway: the same {len(audio)} bytes; 9 refusals"


def logged(fleet: Stack) -> list[str]:
    """Whose edits Envoy's log has."""
    lines = docker("logs", fleet.container("envoy")).splitlines()
    requests = [json.loads(line) for line in lines if line.startswith("{")]
    return [one["client"] for one in requests if re.search("Stream|generate", one["path"])]


def fleet_hardening(fleet: Stack) -> str:
    """Users, capabilities and limits are those of the files."""
    for service, described in fleet.read().items():
        for container in fleet.containers(service) if service in USERS else ():
            check_closed(service, container, USERS[service])
            memory, processes = int(described["mem_limit"]), int(described["pids_limit"])
            check_limits(service, container, memory, processes)
    return ", ".join(f"{name}: uid {user}" for name, user in USERS.items())


def fleet_sessions(fleet: Stack) -> str:
    """A result waits in Redis for its session, whichever gateway asks."""
    body = {"audio_data": base64.b64encode(clip(2.0)).decode(), "variation": "celtic", **SHORT}
    begin = f"{GATEWAY}/api/juce/transform_audio"
    status, _, answer = ask(begin, json.dumps(body).encode(), Content_Type="application/json")
    check(status == 200, "the edit begins", answer[:300])
    poll = f"{GATEWAY}/api/juce/poll_status/{json.loads(answer)['session_id']}"

    def found() -> dict[str, object]:
        return dict(json.loads(ask(poll)[2]))

    eventually(lambda: found()["status"] == "completed", 120, "the edit is done")
    result = found()["audio_data"]
    kept = fleet.compose("exec", "-T", "redis", "redis-cli", "dbsize").split()[-1]
    check(int(kept) > 0, "Redis keeps it")
    fleet.compose("restart", GATEWAY_SERVICE)
    eventually(lambda: answers(f"{GATEWAY}/ready"), BACK_SECONDS, "the gateway is back")
    check(result and found()["audio_data"] == result, "another gateway has the result", found())
    return f"a result of {len(str(result))} characters, in {kept} keys, outlives its gateway"


def fleet_watched(fleet: Stack) -> str:
    """Prometheus finds and reads everything that it is to watch, and evaluates every rule."""
    folder = fleet.folder / "deploy/prometheus"
    jobs = yaml.safe_load((folder / "prometheus.yaml").read_text())["scrape_configs"]
    groups = yaml.safe_load((folder / "rules.yaml").read_text())["groups"]
    wanted = {job["job_name"]: 2 if job["job_name"] == "triton" else 1 for job in jobs}
    rules = {group["name"]: len(group["rules"]) for group in groups}

    def told(what: str, which: str) -> list[Any]:
        return list(json.loads(ask(f"{PROMETHEUS}/api/v1/{what}")[2])["data"][which])

    def read() -> dict[str, int]:
        targets = told("targets", "activeTargets")
        return dict(Counter(one["scrapePool"] for one in targets if one["health"] == "up"))

    def evaluated() -> dict[str, int]:
        return {
            group["name"]: sum(rule["health"] == "ok" for rule in group["rules"])
            for group in told("rules", "groups")
        }

    eventually(lambda: read() == wanted, 90, f"Prometheus reads {wanted}")
    eventually(lambda: evaluated() == rules, 60, f"all rules are evaluated: {rules}")
    # Prometheus 3 refuses what doesn't name one of its formats.
    code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).headers['Content-Type'])"
    for target in told("targets", "activeTargets"):
        url = target["scrapeUrl"]
        kind = fleet.compose("exec", "-T", TRITON, "python3", "-c", code, url)
        check(kind.startswith("text/plain"), f"{url} names its format", kind)
    return f"targets: {read()}; rules: {rules}"


def fleet_killed(fleet: Stack) -> str:
    """The busiest server is killed: all its edits come home, from the other one."""
    audio, both = clip(8.0), servers(fleet)
    wanted, edits = by_gateway(audio, LONG), edits_of(GRPC, 8, 128, KEY, seconds=1.0)
    with ThreadPoolExecutor() as pool:
        through = [pool.submit(by_gateway, audio, LONG) for _ in range(2)]
        direct = pool.submit(deliver_all, GRPC, edits, KEY)
        eventually(lambda: min(one.busy() for one in both) >= 2, 60, "edits are in both servers")
        victim = max(both, key=Server.busy).container
        docker("kill", victim)
        made, deliveries = {one.result(300) for one in through}, direct.result(300)
    check(not crowd.lost(deliveries), "all come home, once, right", crowd.table(deliveries))
    check(made == {wanted}, "the gateway's edits come home with their bytes")
    check(sent_again(deliveries), "the kill was noticed")
    docker("start", victim)
    back = eventually(lambda: given_edits(fleet) == 2, BACK_SECONDS, "it is taken back")
    home = f"{len(deliveries)} edits home, {sent_again(deliveries)} of them sent again"
    return f"{home}, and the gateway's 2; taken back after {back:.1f} s"


def sent_again(deliveries: Sequence[crowd.Delivery]) -> int:
    return sum(delivery.heard.again > 0 for delivery in deliveries)


def fleet_stopped(fleet: Stack) -> str:
    """One server is stopped: its edits come home from it, and then it ends at once."""
    edits, both = edits_of(GRPC, 6, 128, KEY, seconds=1.0), servers(fleet)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(deliver_all, GRPC, edits, KEY)
        eventually(lambda: min(one.busy() for one in both) >= 2, 60, "edits are in both servers")
        stopped = both[0].container
        began = time.monotonic()
        stopping = pool.submit(docker, "stop", "--time", "200", stopped)
        deliveries, home = running.result(300), time.monotonic() - began
        stopping.result(300)
        ended = time.monotonic() - began
    check(not crowd.lost(deliveries), "all come home, once, right", crowd.table(deliveries))
    check(not sent_again(deliveries), "no edit is sent again", sent_again(deliveries))
    state = inspect(stopped)["State"]
    check(state["ExitCode"] == 0, "it ends with 0", state)
    check(ended - home < END_SECONDS, "nothing holds it up when its edits are home", ended - home)
    docker("start", stopped)
    eventually(lambda: given_edits(fleet) == 2, BACK_SECONDS, "it is taken back")
    return f"{len(deliveries)} edits home after {home:.1f} s, ended after {ended:.1f} s"


def gateway_works() -> bool:
    return bool(json.loads(ask(f"{GATEWAY}/health")[2])["queue"]["gateway_running"])


def fleet_drain(fleet: Stack) -> str:
    """`compose stop` with edits in flight, through Envoy and the gateway: all come home."""
    audio, both = clip(2.0), servers(fleet)
    gateway = fleet.container(GATEWAY_SERVICE)
    wanted, edits = by_gateway(audio, LONG), edits_of(GRPC, 4, 128, KEY, seconds=10.0)
    with ThreadPoolExecutor() as pool:
        through = pool.submit(by_gateway, audio, LONG)
        direct = pool.submit(deliver_all, GRPC, edits, KEY)
        eventually(lambda: min(one.busy() for one in both) >= 2, 60, "edits are in both servers")
        eventually(gateway_works, 60, "the gateway has its edit")
        began = time.monotonic()
        stopping = pool.submit(fleet.compose, "stop")
        made = through.result(300)
        eventually(lambda: not inspect(gateway)["State"]["Running"], 60, "the gateway has ended")
        check(not direct.done(), "Envoy has edits in flight when its turn could come")
        deliveries = direct.result(300)
        home = time.monotonic() - began
        stopping.result(300)
        ended = time.monotonic() - began
    check(not crowd.lost(deliveries), "all come home, once, right", crowd.table(deliveries))
    check(not sent_again(deliveries), "no edit is sent again", sent_again(deliveries))
    check(made == wanted, "the gateway's edit comes home with its bytes")
    codes = {
        name: [inspect(one)["State"]["ExitCode"] for one in fleet.containers(name)]
        for name in USERS
    }
    check(not any(map(any, codes.values())), "all end with 0", codes)
    home_after = f"{len(deliveries)} edits and the gateway's home after {home:.1f} s"
    return f"{home_after}, all stopped after {ended:.1f} s"


# In this order: the last leaves nothing running.
FLEET: dict[str, Drill] = {
    "fleet_edits": fleet_edits,
    "fleet_hardening": fleet_hardening,
    "fleet_sessions": fleet_sessions,
    "fleet_watched": fleet_watched,
    "fleet_killed": fleet_killed,
    "fleet_stopped": fleet_stopped,
    "fleet_drain": fleet_drain,
}
