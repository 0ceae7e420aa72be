"""Tells when a tritonserver must be replaced: it has ended, hangs, or its model's process is gone.

Triton 2.51 stays live and ready after its model's process has died, or when its gRPC streams hang,
and every edit then waits for ever. Readiness does not tell; the process table, a sign of life from
the model and a stream of one's own do. A server that is merely busy is left alone: a full queue, a
long network call and a loaded machine are no deaths.

`scripts/serve` restarts what has died. In a container this module is the entry point,

    python3 -m melodyflow.watch tritonserver [OPTION...]

which restarts nothing: at the first death it ends everything and exits with 1, so that Docker or
Kubernetes restarts the container. Only the standard library is needed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from melodyflow.probe import answers_http, answers_stream

# The folder where each model's process has a file, named by its pid, whose time of change it keeps
# moving. The file is empty until the first request.
HEARTBEAT_VARIABLE = "MELODYFLOW_HEARTBEAT"
RESTARTS_VARIABLE = "MELODYFLOW_RESTARTS"  # how often the server was started again before
BEAT_SECONDS = 1.0

LOOK_SECONDS = 0.25
STOPPED_SECONDS = 1.0  # shorter stops are somebody's pause, and are left alone
MUTE_SECONDS = 10.0  # without a beat
SILENT_SECONDS = 20.0  # without an answer
PROBE_EVERY, PROBE_TIMEOUT = 2.0, 3.0  # seconds
MOST_BETWEEN = PROBE_EVERY + 2 * PROBE_TIMEOUT + 1.0  # two looks, where this process runs

STUB = "triton_python_backend_stub"[:15]  # as the kernel keeps it


class Process(NamedTuple):
    """An entry of the process table."""

    name: str
    state: str  # a letter of proc(5): T stopped, Z zombie
    parent: int
    started: str  # tells a process from a later one with its number


def read_process(pid: int) -> Process | None:
    """None: there is no such process."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return None
    fields = rest.split()
    return Process(name.partition("(")[2], fields[0], int(fields[1]), fields[19])


def models_of(server: int) -> dict[int, str]:
    """The processes of the models that a tritonserver has loaded: pid -> when it started. One
    that has died since is among them, a zombie as long as tritonserver does not ask after it."""
    everything = {
        pid: process
        for entry in Path("/proc").glob("[0-9]*")
        if (process := read_process(pid := int(entry.name)))
    }

    def descends(pid: int) -> bool:  # a script may stand between the two
        while pid in everything and pid != server:
            pid = everything[pid].parent
        return pid == server

    return {
        pid: process.started
        for pid, process in everything.items()
        if process.name == STUB and descends(pid)
    }


class Lasting:
    """For how many seconds in a row something has been so, as far as this process could see.

    A pause of the whole machine or container lets the clock jump while nothing could change: no
    more than a few seconds of it count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._seen = time.monotonic()

    def see(self, so: bool) -> float:
        now = time.monotonic()
        passed = min(now - self._seen, MOST_BETWEEN)
        self._seen = now
        self.seconds = self.seconds + passed if so else 0.0
        return self.seconds


class Watch:
    """Looks after a tritonserver that is ready, and the processes of its models.

    server: the tritonserver. http_port, grpc_port: on loopback. heartbeats: the folder of its
    models'. What has never answered, or beaten, is not missed: it may be switched off.
    """

    def __init__(
        self, server: subprocess.Popen[bytes], http_port: int, grpc_port: int, heartbeats: Path
    ) -> None:
        self._server, self._heartbeats = server, heartbeats
        self._models = models_of(server.pid)
        self._stopped = {pid: Lasting() for pid in (server.pid, *self._models)}
        self._beats: dict[str, int] = {}
        self._mute: dict[str, Lasting] = {}
        self._probes = [
            Probe("HTTP", lambda: answers_http(http_port, "/v2/health/live", PROBE_TIMEOUT)),
            Probe("gRPC", lambda: answers_stream(grpc_port, PROBE_TIMEOUT)),
        ]
        self._probe_due = 0.0

    def wait(self, ended: Callable[[], bool] = lambda: False) -> str | None:
        """Blocks until the server must be replaced, and says why; None: `ended` says so first."""
        while not ended():
            reason = self.look()
            if reason is not None:
                return reason
            time.sleep(LOOK_SECONDS)
        return None

    def look(self) -> str | None:
        """Why the server must be replaced; None: it serves, or is busy."""
        code = self._server.poll()
        if code is not None:
            return f"tritonserver has ended ({ending(code)})"
        return self._look_at_processes() or self._listen_to_the_models() or self._ask()

    @property
    def took_a_request(self) -> bool:
        """Whether a model has seen a request; known beyond its death."""
        return any(beat.st_size > 0 for beat in self._last_beats().values())

    def _look_at_processes(self) -> str | None:
        names = {self._server.pid: "tritonserver", **dict.fromkeys(self._models, "the model")}
        for pid, who in names.items():
            process = read_process(pid)
            known = self._models.get(pid)
            if process is None or process.state in "ZX" or known not in (None, process.started):
                # Of tritonserver the exit code is more than that it has gone; the next look has it.
                if known is not None:
                    return f"the model's process ({pid}) has ended"
            elif self._stopped[pid].see(process.state == "T") >= STOPPED_SECONDS:
                return f"{who}'s process ({pid}) is stopped (SIGSTOP)"
        return None

    def _listen_to_the_models(self) -> str | None:
        for pid, beat in self._last_beats().items():
            moved = beat.st_mtime_ns != self._beats.get(pid)
            self._beats[pid] = beat.st_mtime_ns
            if self._mute.setdefault(pid, Lasting()).see(not moved) >= MUTE_SECONDS:
                return f"the model's process ({pid}) gave no sign of life for {MUTE_SECONDS:g} s"
        return None

    def _last_beats(self) -> dict[str, os.stat_result]:
        found = {}
        for file in self._heartbeats.glob("*"):
            with suppress(OSError):
                found[file.name] = file.stat()
        return found

    def _ask(self) -> str | None:
        if time.monotonic() < self._probe_due:
            return None
        reasons = [reason for probe in self._probes if (reason := probe.ask())]
        self._probe_due = time.monotonic() + PROBE_EVERY
        return reasons[0] if reasons else None


class Probe:
    """Asks one front end of a server, again and again."""

    def __init__(self, name: str, answers: Callable[[], bool]) -> None:
        self._name, self._answers = name, answers
        self._known = False  # whether it has ever answered
        self._silent = Lasting()

    def ask(self) -> str | None:
        """Why the server must be replaced, once this front end has been silent for too long."""
        answered = self._answers()
        self._known |= answered
        if self._silent.see(self._known and not answered) >= SILENT_SECONDS:
            return f"tritonserver has not answered over {self._name} for {SILENT_SECONDS:g} s"
        return None


def ending(code: int) -> str:
    """What a return code of `subprocess` says in words."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def end_group(leader: int, seconds: float = 5.0) -> None:
    """Kills a process group, and waits some seconds until nothing of it holds a port any more."""
    until = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(leader, signal.SIGKILL)
            if not _group_runs(leader):
                return
            time.sleep(0.02)


def _group_runs(leader: int) -> bool:
    """Whether the group has a process that is not a zombie: those hold nothing any more."""
    for entry in Path("/proc").glob("[0-9]*"):
        process = read_process(int(entry.name))
        if process and process.state not in "ZX":
            with suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == leader:
                    return True
    return False


# --- in a container -------------------------------------------------------------------------------


def port_of(name: str, command: list[str], default: int) -> int:
    """The port of a front end that a tritonserver's command line asks for."""
    port = default
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word.startswith(f"--{name}-port="):
            port = int(word.partition("=")[2])
        elif word == f"--{name}-port":
            port = int(after)
    return port


def main(command: list[str]) -> int:
    """Runs a tritonserver until it ends, is told to, or must be replaced: its exit code, or 1."""
    if not command:
        print("usage: python3 -m melodyflow.watch tritonserver [OPTION...]", file=sys.stderr)
        return 2
    http_port, grpc_port = port_of("http", command, 8000), port_of("grpc", command, 8001)
    told: list[int] = []
    servers: list[subprocess.Popen[bytes]] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        for server in servers:
            if server.poll() is None:
                server.terminate()  # it drains; a second signal changes nothing

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with tempfile.TemporaryDirectory(prefix="melodyflow-") as folder:
        server = subprocess.Popen(
            command,
            env=os.environ | {HEARTBEAT_VARIABLE: folder},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        servers.append(server)
        if told:  # before it was known
            server.terminate()
        reason = None
        if _until_ready(server, http_port, told):
            reason = Watch(server, http_port, grpc_port, Path(folder)).wait(lambda: bool(told))
        elif not told:
            reason = f"tritonserver has ended ({ending(server.wait())})"
        if reason is None or told:
            code = server.wait()
        else:
            print(f"watch: {reason}; ending, to be restarted", file=sys.stderr, flush=True)
            code = 1
        end_group(server.pid)
        server.wait()
    return code if code >= 0 else 128 - code


def _until_ready(server: subprocess.Popen[bytes], port: int, told: list[int]) -> bool:
    """Waits while the server loads; False: it has ended, or was told to."""
    while server.poll() is None and not told:
        if answers_http(port, "/v2/health/ready", PROBE_TIMEOUT):
            return True
        time.sleep(LOOK_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
