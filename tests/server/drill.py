"""What the drills share: a service as `scripts/serve` starts it, a gateway, a busy core.

Everything runs as a process of its own on loopback, as a user would start it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, Self

from .conftest import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TRITON, STUB = "tritonserver", "triton_python_backend_stub"
RESTARTS = "melodyflow_restarts_total"
# One edit a network call. In common calls an edit's neighbours change how its sums are rounded, and
# with them the last bit of a few samples; alone the bytes are the same whatever else goes on.
ONE_A_CALL = ("--set", "MAX_TOKENS=1")
# A drill's clients make more edits than one person may ask a gateway for.
UNLIMITED = {
    "MELODYFLOW_GATEWAY_EDITS_PER_MINUTE": "100000",
    "MELODYFLOW_GATEWAY_CONCURRENT_EDITS": "1000",
}
START_SECONDS = 120.0  # to load, on a busy machine
END_SECONDS = 30.0


class NotStarted(Exception):
    """A process ended, or said nothing of use, before it was ready."""


class Process:
    """A process whose output is kept line by line."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for stream, lines in (
            (self.process.stdout, self.stdout),
            (self.process.stderr, self.stderr),
        ):
            threading.Thread(target=_keep, args=(stream, lines), daemon=True).start()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def says(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Waits until its standard output matches."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, "".join(self.stdout))):
            if not self.runs or time.monotonic() > deadline:
                self.end(at_once=True)
                raise NotStarted("".join(self.stdout + self.stderr)[-3000:])
            time.sleep(0.05)
        return found

    def end(self, *, at_once: bool = False) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        if self.runs:
            self.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _keep(stream: IO[str] | None, lines: list[str]) -> None:
    assert stream
    lines.extend(stream)  # ends with the stream; each line is there as soon as it has come


@dataclass
class Watch:
    """Which tritonserver and stub were seen running: their process ids, in order."""

    seen: dict[str, list[int]] = field(default_factory=lambda: {TRITON: [], STUB: []})

    def look(self, service: "Service") -> None:
        for name, pids in self.seen.items():
            pid = service.member(name)
            if pid is not None and pid not in pids:
                pids.append(pid)


class Service(Process):
    """A checkpoint served on free ports. Its log stays after it has ended."""

    def __init__(self, checkpoint: Path, log: Path, *more: str) -> None:
        ports = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}-port", "0")]
        super().__init__(
            *("-m", "melodyflow.embedded.serve", "--checkpoint", str(checkpoint), *ports),
            *("--set", "DEVICE=cpu", "--set", "PRECISION=fp32", "--log", str(log)),
            *("--exit-timeout", "10", *more),
        )
        self.log_file = log
        self.says("Press Ctrl-C to stop")
        found = dict(
            re.findall(r"  (gRPC|HTTP|metrics) +(?:http://)?([\d.:]+)", "".join(self.stdout))
        )
        self.grpc_url, self.http_url, self.metrics_url = (
            found[name] for name in ("gRPC", "HTTP", "metrics")
        )

    def member(self, name: str) -> int | None:
        """The id of its tritonserver or stub, where one runs."""
        return next(
            (pid for pid in descendants(self.process.pid) if name in _command(pid).split(" ")[0]),
            None,
        )

    def restarts(self) -> int | None:
        """What /metrics counts; None where it does not answer or does not count."""
        try:
            value = read_metrics(self.metrics_url).get(RESTARTS)
        except OSError:
            return None
        return None if value is None else round(value)

    def said(self) -> str:
        """What it says itself, without the ends of Triton's log that it shows."""
        return "".join(line for line in self.stderr if line.startswith("serve:"))

    def said_restarts(self) -> list[str]:
        """The lines on standard error that tell of a restart."""
        return [line.strip() for line in self.stderr if re.match("serve: .*restarting", line)]


def descendants(pid: int) -> Iterator[int]:
    """All processes that a process has started, and theirs."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                yield child
                yield from descendants(child)


def _command(pid: int) -> str:
    """A process's command line; empty for a zombie and for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


class Gateway(Process):
    """A gateway before a server, on a free port; settings as environment variables."""

    def __init__(self, server: str, metrics: str, **settings: str) -> None:
        addresses = ("--server", server, "--metrics", metrics)
        super().__init__(
            *("-m", "melodyflow_client", "gateway", "--port", "0", *addresses),
            **UNLIMITED,
            **settings,
        )
        self.url = self.says(r"gateway is at (http://\S+)\n")[1]

    def complaints(self) -> str:
        """The last lines of its log that tell of no request as usual."""
        return "".join([line for line in self.stderr if '"level": "info"' not in line][-10:])


@contextmanager
def busy_cores(count: int, nice: int) -> Iterator[None]:
    """Keeps cores busy with nothing."""
    spin = f"import os; os.nice({nice})\nwhile True: pass"
    spinning = [Process("-c", spin) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.end(at_once=True)


@contextmanager
def checkpoint_or_tiny(given: Path | None) -> Iterator[Path]:
    """The checkpoint that was asked for, or the tests' tiny random one."""
    if given is not None:
        yield given
        return
    from melodyflow.tools.convert import convert  # imports torch

    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        parity, made = ROOT / "tests" / "data" / "parity", Path(folder) / "tiny"
        convert(parity / "tiny", made, t5=parity / "t5")
        yield made


def eventually(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition holds within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def tail(file: Path, lines: int = 15) -> str:
    """The end of a log."""
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


class Report(Protocol):
    """What a drill has shown."""

    log: str  # the end of Triton's

    def table(self) -> str: ...

    def broken(self) -> list[str]: ...


def told(report: Report, service: Service, gateway: Gateway) -> int:
    """Prints a report, and what explains a broken promise; the exit code."""
    print(report.table())
    broken = report.broken()
    for promise in broken:
        print(f"BROKEN: {promise}")
    if broken:
        print(f"\nthe service said:\n{service.said()}")
        print(f"\nthe gateway said:\n{gateway.complaints()}")
        print(f"\nthe log ends:\n{report.log}")
    return 1 if broken else 0
