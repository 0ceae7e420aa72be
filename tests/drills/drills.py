"""What is promised of the images, each promise as a drill: a function that brings the services
into a state, looks, and says what it found in a few words. It raises Failed where a promise is
broken."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from .clips import GATEWAY, WAYS, ask, by_gateway, by_grpc, clip
from .clips import TRITON as HTTP
from .engine import docker
from .stack import GATEWAY as GATEWAY_SERVICE
from .stack import TRITON, Stack, check, check_fails, eventually, inspect

Drill = Callable[[Stack], str]
# The SDK asks for the source's loudness by itself.
SHORT = {"seed": 7, "steps": 4, "loudness": "source"}
LONG = {**SHORT, "steps": 128}
# What a quiet machine needs is said in docs/operations.md; these only tell waiting from hanging.
BACK_SECONDS = 90.0  # until a service is back whose process was killed
HEALTH_SECONDS = 4.0  # for /health: below a second there; Docker's resolver alone takes 8 s


def edits(stack: Stack) -> str:
    """One edit each way has the same bytes, and the page has all its files."""
    audio = clip(2.0)
    made = {name: way(audio, SHORT) for name, way in WAYS.items()}
    check(
        len(set(made.values())) == 1,
        "all ways give the same bytes",
        {n: len(m) for n, m in made.items()},
    )
    _, headers, page = ask(f"{GATEWAY}/")
    files = re.findall(r"<(static/[^>]+)>", headers["Link"])
    files += re.findall(r'(?:href|src)="/?(static/[^"]+)"', page.decode())
    missing = [file for file in files if ask(f"{GATEWAY}/{file}")[0] != 200]
    check(len(files) > 30 and not missing, "the page has its files", missing or len(files))
    return f"{', '.join(made)}: the same {len(audio)} bytes; {len(files)} files of the page"


def killed(stack: Stack, process: str) -> str:
    """A killed process ends the container, which is restarted; edits in flight come home."""
    audio = clip(8.0)
    wanted = by_grpc(audio, LONG)
    before = stack.state(TRITON)["RestartCount"]
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(way, audio, LONG) for way in (by_grpc, by_gateway)]
        eventually(lambda: in_flight() >= 1, 60, "an edit is in flight")
        [pid] = stack.pids(TRITON, process[:15])
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        eventually(
            lambda: stack.state(TRITON)["RestartCount"] > before, BACK_SECONDS, "it is restarted"
        )
        ready = f"{HTTP}/v2/models/melodyflow/ready"
        eventually(lambda: answers(ready), BACK_SECONDS, "it is ready again")
        back = time.monotonic() - began
        came = [one.result(300) for one in running]
    check(set(came) == {wanted}, "the edits in flight come home with their bytes")
    return f"back after {back:.1f} s, both edits in flight home"


def stub_killed(stack: Stack) -> str:
    return killed(stack, "triton_python_backend_stub")


def tritonserver_killed(stack: Stack) -> str:
    return killed(stack, "tritonserver")


def drain(stack: Stack) -> str:
    """`compose stop` lets edits in flight come home, direct ones and the gateway's."""
    audio = clip(12.0)
    with ThreadPoolExecutor() as pool:
        edit = pool.submit(by_gateway, audio, LONG)
        eventually(lambda: in_flight() >= 1, 60, "an edit is in flight")
        began = time.monotonic()
        stopping = pool.submit(stack.compose, "stop")
        eventually(lambda: ask(f"{GATEWAY}/ready")[0] == 503, 20, "the gateway says that it stops")
        status, headers, _ = ask(f"{GATEWAY}/transform", b"{}", Content_Type="application/json")
        check((status, headers["Retry-After"]) == (503, "5"), "a new edit is refused", status)
        check(not edit.done(), "the edit is in flight meanwhile")
        through = home(edit, stopping, began)
    codes = exit_codes(stack)
    check(codes == [0, 0], "both end with 0", codes)
    stack.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "120")
    with ThreadPoolExecutor() as pool:
        edit = pool.submit(by_grpc, audio, LONG)
        eventually(lambda: in_flight() >= 1, 60, "an edit is in flight")
        began = time.monotonic()
        direct = home(edit, pool.submit(stack.compose, "stop", TRITON), began)
    check(exit_codes(stack)[0] == 0, "Triton ends with 0", exit_codes(stack))
    return f"the gateway's edit home and all stopped after {through}, a direct one's {direct}"


def home(edit: Future[bytes], stopping: Future[str], began: float) -> str:
    """Waits for an edit, then for what stops its server. Returns when each of them was done."""
    check(len(edit.result(300)) > 44, "the edit comes home")
    at_home = time.monotonic() - began
    stopping.result(300)
    return f"{at_home:.1f} and {time.monotonic() - began:.1f} s"


def exit_codes(stack: Stack) -> list[int]:
    return [stack.state(name)["State"]["ExitCode"] for name in (TRITON, GATEWAY_SERVICE)]


def hardening(stack: Stack) -> str:
    """The kernel's account of both containers' processes, and what they may use."""
    for service, memory, processes in ((TRITON, 16, 4096), (GATEWAY_SERVICE, 4, 512)):
        container = stack.container(service)
        own = ("/opt/melodyflow/x", "/opt/melodyflow/source/x")
        check_closed(service, container, 1000, *own)
        check_limits(service, container, memory * 2**30, processes)
        left = docker("exec", container, "sh", "-c", "ls -A /tmp; find /opt/melodyflow ! -readable")
        check("requirements" not in left and "/opt" not in left, "nothing is left over", left)
    mount = docker("exec", stack.container(TRITON), "df", "-k", "--output=size", "/tmp").split()[-1]
    check(int(mount) == 256 * 1024, "/tmp has 256 MiB", mount)
    return "uid 1000, no capabilities, no new privileges, seccomp, nothing to write to but /tmp"


def check_closed(service: str, container: str, user: int, *paths: str) -> None:
    """A container's processes have a user and no rights, and nobody can write its root or paths."""
    for which in ("1", "self"):
        status = dict(
            line.split(":\t", 1)
            for line in docker("exec", container, "cat", f"/proc/{which}/status").splitlines()
        )
        check(set(status["Uid"].split()) == {str(user)}, f"{service} is {user}", status["Uid"])
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            check(int(status[name], 16) == 0, f"{service} has no {name}", status[name])
        check(status["NoNewPrivs"] == "1", f"{service} gets no new privileges")
        check(status["Seccomp"] == "2", f"{service}'s calls are filtered", status["Seccomp"])
    for path in ("/x", *paths):
        write = partial(docker, "exec", "--user", "0", container, "touch", path)
        check_fails(write, f"{path} of {service} can't be written, even by root")


def check_limits(service: str, container: str, memory: int, processes: int) -> None:
    """memory: in bytes."""
    limits = inspect(container)["HostConfig"]
    check(limits["Memory"] == memory, f"{service} has a limit of memory", limits["Memory"])
    check(limits["PidsLimit"] == processes, f"{service} has a limit of processes")
    logs = limits["LogConfig"]["Config"]
    check(logs == {"max-size": "10m", "max-file": "3"}, f"{service}'s logs are bounded", logs)


def hosts(stack: Stack) -> str:
    """Who may ask by which name."""
    found = {
        (path, host): ask(f"{GATEWAY}{path}", Host=host)[0]
        for path in ("/health", "/ready", "/metrics", "/variations")
        for host in ("172.18.0.3:8002", "gateway:8002", "melodyflow:8002", "localhost")
    }
    wrong = {
        (path, host): status
        for (path, host), status in found.items()
        if status != (421 if host[0] == "1" and path in ("/metrics", "/variations") else 200)
    }
    check(not wrong, "probes have any Host, the rest only known ones", wrong)
    # As Prometheus in the same network asks.
    code = "import urllib.request as r; print(r.urlopen('http://gateway:8002/metrics').status)"
    check(stack.compose("exec", "-T", TRITON, "python3", "-c", code).strip() == "200", "metrics")
    return "probes under any, /metrics and /variations only under known ones"


def quiet(stack: Stack) -> str:
    """Probes fill neither log nor metrics."""
    for _ in range(20):
        ask(f"{GATEWAY}/health")
        ask(f"{GATEWAY}/ready")
    log = docker("logs", stack.container(GATEWAY_SERVICE))
    check('"/health"' not in log and '"/ready"' not in log, "no probe is in the log", log[-300:])
    metrics = ask(f"{GATEWAY}/metrics")[2].decode()
    check('route="/ready"' not in metrics, "no probe is in the metrics")
    return "no line of them in the gateway's log"


def health(stack: Stack) -> str:
    """/health and /ready within a second, whatever state Triton is in."""
    slowest = {}
    container = stack.container(TRITON)
    states = {"paused": ("pause", "unpause"), "stopped": ("kill", "start")}
    for state, (begin, end) in states.items():
        docker(begin, container)
        took = []
        for _ in range(8):
            for path in ("/health", "/ready"):
                began = time.monotonic()
                ask(f"{GATEWAY}{path}")
                took.append(time.monotonic() - began)
            time.sleep(0.5)
        check(ask(f"{GATEWAY}/ready")[0] == 503, f"not ready while Triton is {state}")
        docker(end, container)
        eventually(lambda: ask(f"{GATEWAY}/ready")[0] == 200, 90, "it is ready again")
        slowest[state] = max(took)
    check(max(slowest.values()) < HEALTH_SECONDS, "they don't wait for Triton", slowest)
    return ", ".join(f"{state}: {seconds:.2f} s" for state, seconds in slowest.items())


def large(stack: Stack) -> str:
    """A body of 55 MB over HTTP and through the gateway."""
    audio = clip(215.0)
    asked = {**SHORT, "start": 100.0, "end": 101.0}
    made = {WAYS[name](audio, asked) for name in ("HTTP", "the gateway")}
    check(len(made) == 1 and len(made.pop()) > 41e6, "both ways give the same bytes")
    return f"{len(audio) * 4 / 3 / 1e6:.0f} MB as JSON"


def out_of_memory(stack: Stack) -> str:
    """With too little memory the kernel ends the model; the service comes back."""
    with stack.up(MELODYFLOW_MEMORY="760m"):
        by_grpc(clip(1.0), SHORT)
        before = stack.state(TRITON)["RestartCount"]
        with ThreadPoolExecutor() as pool:
            too_much = pool.submit(
                by_gateway, clip(230.0), {"seed": 1, "steps": 1, "timeout_s": 60}
            )
            eventually(
                lambda: stack.state(TRITON)["RestartCount"] > before,
                120,
                "it is ended and restarted",
            )
            check_fails(lambda: too_much.result(300), "an edit that can't fit ends with an error")
        eventually(lambda: ask(f"{GATEWAY}/ready")[0] == 200, 60, "it is ready again")
        check(len(by_gateway(clip(1.0), SHORT)) > 44, "other edits work")
        times = stack.state(TRITON)["RestartCount"] - before
    return (
        f"restarted {times} times by one edit that can't fit, which ends with an error; others work"
    )


def unreadable(stack: Stack) -> str:
    """The checkpoint of a checkout with umask 077 says why it can't be loaded."""
    own = Stack(stack.folder)
    own.compose("up", "--detach", "--no-build", TRITON)
    try:
        eventually(lambda: "not readable by uid 1000" in own.log(), 60, "the log says why")
    finally:
        own.compose("down", "--timeout", "1")
    return "not readable by uid 1000"


def readme(stack: Stack) -> str:
    """The README's second way in: the demo checkpoint, without any variable."""
    for path in (stack.folder / "checkpoints", *(stack.folder / "checkpoints").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    own = Stack(stack.folder)
    with own.up():
        loaded = json.loads(ask(f"{GATEWAY}/health")[2])["checkpoint"]["name"]
        made = by_gateway((stack.folder / "examples/riff.wav").read_bytes(), SHORT)
        check(len(made) > 1e6, "the riff comes back", len(made))
    return f"an edit of the riff with {loaded}"


def scale(stack: Stack) -> str:
    """Two servers on one machine, each with ports of its own."""
    ranges = {"HTTP": "8100-8101", "GRPC": "8110-8111", "METRICS": "8120-8121"}
    own = Stack(
        stack.folder, {**stack.variables, **{f"MELODYFLOW_{n}_PORT": r for n, r in ranges.items()}}
    )
    own.compose("up", "--detach", "--no-build", "--wait", "--scale", f"{TRITON}=2", TRITON)
    try:
        ready = [ask(f"http://127.0.0.1:{port}/v2/health/ready")[0] for port in (8100, 8101)]
        check(ready == [200, 200], "both are ready", ready)
    finally:
        own.compose("down", "--timeout", "1")
    return "two on ranges of ports"


def fleet_file(stack: Stack) -> str:
    """Compose reads docker-compose.fleet.yml after docker-compose.yml as it is meant."""
    files = ("docker-compose.yml", "docker-compose.fleet.yml")
    site = {"MELODYFLOW_SITE": str(stack.folder), "MELODYFLOW_API_KEY": "key"}
    read = Stack(stack.folder, {**stack.variables, **site}, files).read()
    check(not read[TRITON].get("ports"), "the servers publish no port", read[TRITON].get("ports"))
    gateway = read[GATEWAY_SERVICE]
    check({"envoy", "redis", TRITON} <= set(gateway["depends_on"]), "the gateway is stopped first")
    check("envoy" in read[TRITON]["depends_on"], "Envoy is stopped after the servers")
    check(gateway["environment"]["MELODYFLOW_SERVER"] == "envoy:8001", "it asks Envoy")
    check_fails(Stack(stack.folder, {}, files).read, "without MELODYFLOW_SITE it is refused")
    return f"{len(read)} services"


def in_flight(metrics: str = "http://127.0.0.1:8003/metrics") -> float:
    """Edits that hold a slot in Triton."""
    text = ask(metrics)[2].decode()
    found = re.findall(r"^melodyflow_edits_in_flight\{.*\} (\S+)$", text, re.MULTILINE)
    return float(found[0]) if found else 0.0


def answers(url: str) -> bool:
    try:
        return ask(url)[0] == 200
    except OSError:
        return False


ALWAYS: dict[str, Drill] = {"edits": edits, "stub_killed": stub_killed, "drain": drain}
# With the services up, then with services of their own.
UP: dict[str, Drill] = {
    "edits": edits,
    "hardening": hardening,
    "hosts": hosts,
    "quiet": quiet,
    "large": large,
    "stub_killed": stub_killed,
    "tritonserver_killed": tritonserver_killed,
    "health": health,
    "drain": drain,
}
OWN: dict[str, Drill] = {
    "out_of_memory": out_of_memory,
    "unreadable": unreadable,
    "readme": readme,
    "scale": scale,
    "fleet_file": fleet_file,
}
