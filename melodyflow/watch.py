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
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from melodyflow.probe import answers_http, answers_stream
from melodyflow.repository import write_repository

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

# In a container.
LOAD_SECONDS = 600.0
GONE_SECONDS = 10.0  # between the end of the model's process and tritonserver's, when it drains
# Seconds beyond the exit timeout after which Triton is killed: it may hang then while some client
# keeps a stream open.
KILL_AFTER = 5

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


def runs(pid: int, started: str) -> bool:
    """Whether the process that started then still does; a zombie does not."""
    process = read_process(pid)
    return process is not None and process.started == started and process.state not in "ZX"


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


class Stops:
    """Looks for what somebody has stopped (SIGSTOP) and not let go on, in whatever phase it is."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._stopped: dict[int, Lasting] = {}

    def look(self, models: Iterable[int]) -> str | None:
        """Why the server must be replaced, if it must; `models` are its models' processes."""
        for pid, who in {
            self._server: "tritonserver",
            **dict.fromkeys(models, "the model"),
        }.items():
            process = read_process(pid)
            stopped = process is not None and process.state == "T"
            if self._stopped.setdefault(pid, Lasting()).see(stopped) >= STOPPED_SECONDS:
                return f"{who}'s process ({pid}) is stopped (SIGSTOP)"
        return None


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
        self._stops = Stops(server.pid)
        self._beats: dict[str, int] = {}
        self._mute: dict[str, Lasting] = {}
        self._probes = [
            Probe("HTTP", lambda: answers_http(http_port, "/v2/health/live", PROBE_TIMEOUT)),
            Probe("gRPC", lambda: answers_stream(grpc_port, PROBE_TIMEOUT)),
        ]
        self._probe_due = 0.0
        self._asking: threading.Thread | None = None
        self._unanswered: str | None = None

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
        return (
            self._look_at_the_models()
            or self._stops.look(self._models)
            or self._listen_to_the_models()
            or self._ask()
        )

    @property
    def took_a_request(self) -> bool:
        """Whether a model has seen a request; known beyond its death."""
        return any(beat.st_size > 0 for beat in self._last_beats().values())

    def _look_at_the_models(self) -> str | None:
        for pid, started in self._models.items():
            if not runs(pid, started):
                return f"the model's process ({pid}) has ended"
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
        # Beside the looks: an answer that does not come must not delay them.
        if time.monotonic() >= self._probe_due and not (self._asking and self._asking.is_alive()):
            self._probe_due = time.monotonic() + PROBE_EVERY
            self._asking = threading.Thread(target=self._probe, daemon=True)
            self._asking.start()
        return self._unanswered

    def _probe(self) -> None:
        for probe in self._probes:
            self._unanswered = probe.ask() or self._unanswered


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


def number_of(flag: str, command: list[str], default: int) -> int:
    """What a tritonserver's command line says for a flag such as "http-port"."""
    number = default
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word.startswith(f"--{flag}="):
            number = int(word.partition("=")[2])
        elif word == f"--{flag}":
            number = int(after)
    return number


def with_settings(command: list[str], folder: Path) -> list[str]:
    """A tritonserver's command line whose model repositories are copies in `folder` that have the
    settings in force in them."""
    words = iter(command)
    made: list[str] = []
    for word in words:
        flag, equals, path = word.partition("=")
        if flag == "--model-repository":
            path = path if equals else next(words, "")
            if Path(path).is_dir():
                copy = folder / str(len(made))
                path = str(write_repository(Path(path), copy, os.environ))
            word = f"{flag}={path}"
        made.append(word)
    return made


def main(command: list[str]) -> int:
    """Runs a tritonserver until it ends, is told to, or must be replaced: its exit code, or 1."""
    if not command:
        print("usage: python3 -m melodyflow.watch tritonserver [OPTION...]", file=sys.stderr)
        return 2
    http_port, grpc_port = (
        number_of("http-port", command, 8000),
        number_of("grpc-port", command, 8001),
    )
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
        heartbeats = Path(folder) / "heartbeats"
        heartbeats.mkdir()
        server = subprocess.Popen(
            with_settings(command, Path(folder) / "models"),
            env=os.environ | {HEARTBEAT_VARIABLE: str(heartbeats)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        servers.append(server)
        if told:  # before it was known
            server.terminate()
        reason = _load(server, http_port, told)
        if server.poll() == 0:
            return 0  # it had only something to say, such as --help
        if reason is None and not told:
            reason = Watch(server, http_port, grpc_port, heartbeats).wait(lambda: bool(told))
        code = 1
        if told:
            code = _drain(server, number_of("exit-timeout-secs", command, 30) + KILL_AFTER)
        else:
            print(f"watch: {reason}; ending, to be restarted", file=sys.stderr, flush=True)
        end_group(server.pid)
        server.wait()
    return code


def _load(server: subprocess.Popen[bytes], port: int, told: list[int]) -> str | None:
    """Waits until the server is ready, or told to end; why it must be replaced, if it must."""
    until = time.monotonic() + LOAD_SECONDS
    stops = Stops(server.pid)
    while not told:
        code = server.poll()
        if code is not None:
            return f"tritonserver has ended ({ending(code)})"
        if answers_http(port, "/v2/health/ready", PROBE_TIMEOUT):
            return None
        reason = stops.look(models_of(server.pid))
        if reason is None and time.monotonic() > until:
            reason = f"tritonserver was not ready after {LOAD_SECONDS:g} s"
        if reason is not None:
            return reason
        time.sleep(LOOK_SECONDS)
    return None


def _drain(server: subprocess.Popen[bytes], seconds: float) -> int:
    """Waits while the server ends the edits in flight; its exit code, or 1 where it hangs: beyond
    its own timeout, or because its model's process, which ends first, has died."""
    until = time.monotonic() + seconds
    models, stops, gone = models_of(server.pid), Stops(server.pid), Lasting()
    while True:
        code = server.poll()
        if code is not None:
            return code if code >= 0 else 128 - code
        reason = stops.look(models)
        ended = bool(models) and not any(runs(*model) for model in models.items())
        if gone.see(ended) >= GONE_SECONDS:
            reason = f"its model has ended, and it has not, for {GONE_SECONDS:g} s"
        elif time.monotonic() > until:
            reason = "the exit timeout has passed"
        if reason is not None:
            print(f"watch: {reason}; killing tritonserver", file=sys.stderr, flush=True)
            return 1
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
