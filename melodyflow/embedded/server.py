"""Finding, starting and ending the tritonserver in the nvidia-pytriton wheel: no Docker needed.

For one machine, on loopback; the Docker image is for everything else.
`scripts/serve --help` says how to use it.
"""

import io
import os
import random
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from melodyflow.embedded.distribution import Distribution, find_distribution
from melodyflow.embedded.probe import HOST, answers_http
from melodyflow.embedded.processes import KILL_AFTER, end_group, ending, models_of
from melodyflow.embedded.repository import write_repository
from melodyflow.embedded.watch import Stops, Watch
from melodyflow.errors import CheckpointError, EmbeddedError
from melodyflow.manifest import read_manifest
from melodyflow.serving.heartbeat import HEARTBEAT_VARIABLE, RESTARTS_VARIABLE

SHARED_MEMORY = Path("/dev/shm")
PACKAGES = Path(__file__).resolve().parents[2]  # the checkout, or site-packages
MODEL_REPOSITORY = PACKAGES / "model_repository"
DEMO_CHECKPOINT = PACKAGES / "checkpoints" / "demo"
EXIT_TIMEOUT = 60  # seconds that edits in flight have to end
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

# Port 0 is one of these. They lie below those that Linux gives to outgoing connections: between the
# choice and Triton's use of it, minutes later with a large model, such a connection could take it.
FREE_PORTS = range(20000, 32768)

# Nobody holds the key, so nobody can use these: tritonserver's own way to switch an API off.
CLOSED_APIS = ("model-repository", "shared-memory", "trace", "logging")

# States that this Triton's gRPC front end keeps for reuse. With its default, 8, it died of refused
# and cancelled streams, 3 times in 13,000; never in 34,000 with a pool that does not fill up.
# Newer Tritons have the fix (triton-inference-server/server, issues 7368 and 8034).
GRPC_STATES = 4096

# This Triton's HTTP front end recurses on large JSON bodies (CVE-2025-23310); its threads get their
# stack from this limit. 512 MiB of address space carries bodies of 50 MB and more.
LAUNCHER = """ulimit -S -s 524288 2>/dev/null || ulimit -S -s "$(ulimit -H -s)"; exec "$@" """

# glibc's malloc in tritonserver. It would keep what its many threads have freed, in pieces, and
# grow with every new mix of sizes: few arenas, and what is large goes back to the system at once.
MALLOC = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**17),
    "MALLOC_TRIM_THRESHOLD_": str(2**17),
}

# Triton starts the stub with its own environment. The model must not get these: it takes and frees
# large tensors at every layer, and fresh pages for each would cost a third of its time.
STUB = """#!/bin/sh
unset {unset}
exec {stub} "$@"
"""

# Does stop()'s work when this process is killed too hard to do it: its end closes the pipe that
# `read` waits on. (`kill -KILL -- -PID` is no group to dash.)
SWEEPER = """
read -r word; [ "$word" = ended ] && exit
server=$1 wait=$2 folder=$3 prefix=$4
kill -TERM "$server"
while kill -0 "$server" && [ "$wait" -gt 0 ]; do wait=$((wait - 1)); sleep 1; done
kill -s KILL -- "-$server"
rm -rf "$folder" "$prefix"*
"""


def check_checkpoint(folder: Path) -> None:
    """Raises EmbeddedError when `folder` is no converted checkpoint."""
    try:
        read_manifest(folder)
    except CheckpointError as error:
        raise EmbeddedError(str(error)) from error


def choose_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Name -> port on loopback, with 0 replaced by a free one.

    Raises EmbeddedError naming the port and its flag when it is taken, given twice, or no port.
    """
    given = [port for port in wanted.values() if port != 0]
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        flag = f"--{name}-port"
        if not 0 <= port <= 65535:
            raise EmbeddedError(f"{flag} {port}: not a port; 0 to 65535 are (0: a free one)")
        if given.count(port) > 1:
            raise EmbeddedError(f"{flag} {port}: given twice; every port needs a number of its own")
        if port == 0:
            chosen[name] = _free_port({*given, *chosen.values()})
            continue
        try:
            _listen(port)
        except PermissionError:
            raise EmbeddedError(
                f"port {port} needs root: choose one from 1024 with {flag}"
            ) from None
        except OSError:
            raise EmbeddedError(f"port {port} is taken: choose another with {flag}") from None
        chosen[name] = port
    return chosen


def _free_port(avoided: set[int]) -> int:
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        if port not in avoided:
            with suppress(OSError):
                _listen(port)
                return port
    raise EmbeddedError(f"no free port from {FREE_PORTS.start} to {FREE_PORTS.stop - 1}")


def _listen(port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(1)


def failure_reason(log: str) -> str:
    """Why Triton did not start: the model's own error where there is one, else the log's end."""
    # Triton logs a message as one line in quotes, with \n for its line ends and \" for its quotes.
    for pattern in (
        r"failed to load '[^']+' version \d+: (?:\w+: )?(.+)",
        r"(Poll failed for model directory .+)",
        r"(failed to start .+)",
    ):
        found = re.search(pattern, log)
        if found:
            message = found.group(1).replace(r"\n", "\n").replace(r"\"", '"')
            return message.split("\n\nAt:")[0].strip().removesuffix('"').strip()
    return "\n".join(log.strip().splitlines()[-10:]) or "no output"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would raise in this block (Ctrl-C) do so at its end: a process that is started
    or ended in it is known afterwards, and nothing of it is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which no signal interrupts
        return
    came: list[int] = []
    handlers = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(number))
    }
    for caught in handlers:
        signal.signal(caught, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for caught, handler in handlers.items():
            signal.signal(caught, handler)
        for number in came:
            signal.raise_signal(number)


class EmbeddedServer:
    """One tritonserver on loopback. A context manager: ready inside, gone outside.

    Ports: 0 is a free one, which stays the server's when it is started again. `settings` reach the
    model as MELODYFLOW_<NAME> (DEVICE, PRECISION, SLOTS, ...), over the same names in this
    process's environment and over config.pbtxt. `log` is appended to; without it Triton's log lives
    as long as the server. `exit_timeout`: seconds that edits in flight have to end when it is
    stopped. Not for use by several threads at once. Raises EmbeddedError for what cannot be meant.
    """

    def __init__(
        self,
        checkpoint: Path | None,
        *,
        http_port: int = 8000,
        grpc_port: int = 8001,
        metrics_port: int = 8003,
        settings: Mapping[str, str] = NO_SETTINGS,
        model_repository: Path | None = None,
        log: Path | None = None,
        exit_timeout: int = EXIT_TIMEOUT,
    ) -> None:
        if exit_timeout < 0:
            raise EmbeddedError(f"--exit-timeout {exit_timeout}: 0 seconds or more")
        self._checkpoint = checkpoint
        self._wanted = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        self._settings = {name.upper(): value for name, value in settings.items()}
        self._repository = (model_repository or MODEL_REPOSITORY).resolve()
        self._log = log
        self._exit_timeout = exit_timeout
        self._ports: dict[str, int] = {}
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sweeper: subprocess.Popen[bytes] | None = None
        self._prefix = ""
        self._log_begin = 0  # of what this tritonserver has written

    def start(self, timeout: float = 600.0, *, restarts: int = 0) -> None:
        """Returns when the server and its model are ready, after at most `timeout` seconds.

        restarts: how often it was started before, for its metrics. Raises EmbeddedError with the
        reason; nothing of the server is left then.
        """
        if self._process is not None:
            raise EmbeddedError("already started")
        distribution = find_distribution()
        if not self._repository.is_dir():
            raise EmbeddedError(
                f"{self._repository}: no such model repository; run from a checkout, or give one "
                "with --model-repository"
            )
        if self._checkpoint is not None:
            check_checkpoint(self._checkpoint)
        self._ports = self._wanted = choose_ports(self._wanted)
        try:
            with undisturbed():
                self._launch(distribution, restarts)
            self._wait_until_ready(timeout)
        except BaseException:  # Ctrl-C while loading, too
            self.stop(at_once=True)
            raise

    def stop(self, *, at_once: bool = False) -> None:
        """Ends the server: edits in flight have the exit timeout to end, unless `at_once`.

        May be called twice.
        """
        process = self._process
        if process is not None:
            try:
                if not at_once and process.poll() is None:
                    process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(self._exit_timeout + KILL_AFTER)
            finally:  # a second Ctrl-C ends the wait, not the tidying
                with undisturbed():
                    self._tidy(process)

    def _tidy(self, process: subprocess.Popen[bytes]) -> None:
        # Ends the server if it is left, and the stub if that has outlived it.
        end_group(process.pid)
        process.wait()
        for leftover in SHARED_MEMORY.glob(f"{self._prefix}*"):
            leftover.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._sweeper is not None:
            self._sweeper.communicate(b"ended\n")
        self._process = self._sweeper = self._folder = None

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The tritonserver's process id. Raises EmbeddedError when none runs."""
        return self._running().pid

    @property
    def http_url(self) -> str:
        """127.0.0.1:PORT, as tritonclient takes it."""
        return f"{HOST}:{self._ports['http']}"

    @property
    def grpc_url(self) -> str:
        """127.0.0.1:PORT, as tritonclient takes it."""
        return f"{HOST}:{self._ports['grpc']}"

    @property
    def metrics_url(self) -> str:
        """127.0.0.1:PORT, which answers /metrics over HTTP."""
        return f"{HOST}:{self._ports['metrics']}"

    @property
    def log(self) -> Path | None:
        """Triton's log and the model's; None when none runs and no file was asked for."""
        if self._log is not None:
            return self._log
        return self._folder / "triton.log" if self._folder else None

    def watch(self) -> Watch:
        """Whoever asks it learns when the server must be replaced: stop() it and start() it."""
        ports = self._ports
        return Watch(self._running(), ports["http"], ports["grpc"], self._heartbeats)

    def log_tail(self) -> str:
        """The last lines of what this tritonserver, or the one before, has written; no tables."""
        lines = [line for line in self._log_text().splitlines() if line and line[0] not in "+|"]
        return "\n".join(lines[-20:])

    def keep_log(self, file: Callable[[], Path]) -> Path:
        """Appends what this tritonserver has written to a file that outlives it, unless there is a
        log that does; returns the one."""
        if self._log is not None:
            return self._log
        kept = file()
        with kept.open("a") as output:
            output.write(self._log_text())
        return kept

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedError("not started")
        return self._process

    @property
    def _heartbeats(self) -> Path:
        assert self._folder is not None
        return self._folder / "heartbeats"

    def _launch(self, distribution: Distribution, restarts: int) -> None:
        name = f"melodyflow-{os.getpid()}-{secrets.token_hex(4)}-"
        self._prefix = name
        self._folder = Path(tempfile.mkdtemp(prefix=name))
        self._heartbeats.mkdir()
        # Triton wants a backend and its stub in one folder; in the wheel they lie apart.
        backend = self._folder / "backends" / "python"
        shutil.copytree(distribution.backend, backend, ignore=shutil.ignore_patterns("__pycache__"))
        stub = backend / distribution.stub.name
        ours = " ".join(MALLOC.keys() - os.environ.keys())
        stub.write_text(STUB.format(unset=ours, stub=shlex.quote(str(distribution.stub))))
        stub.chmod(0o755)
        log = self.log
        assert log is not None
        try:
            output = log.open("ab")
        except OSError as error:
            raise EmbeddedError(
                f"--log {log}: {error.strerror}; name a file in a folder that is there"
            ) from None
        environment = self._environment(distribution)
        models = write_repository(self._repository, self._folder / "models", environment)
        command = self._command(distribution.binary, backend.parent, models)
        with output:
            self._log_begin = output.tell()
            self._process = subprocess.Popen(
                ["sh", "-c", LAUNCHER, "sh", *command],
                env=environment
                | {HEARTBEAT_VARIABLE: str(self._heartbeats), RESTARTS_VARIABLE: str(restarts)},
                # The stub's Python ignores PYTHONPATH and looks into its current folder first: it
                # finds this melodyflow there, and nothing that lies where the user happens to be.
                cwd=PACKAGES,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone; it ends the server
            )
        arguments = (
            self._process.pid,
            self._exit_timeout + KILL_AFTER,
            self._folder,
            SHARED_MEMORY / self._prefix,
        )
        self._sweeper = subprocess.Popen(
            ["sh", "-c", SWEEPER, "sh", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _command(self, binary: Path, backends: Path, models: Path) -> list[str]:
        key = f"melodyflow={secrets.token_hex(16)}"
        return [
            str(binary),
            f"--model-repository={models}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--model-control-mode=none",
            # config.pbtxt says all: without this the stub is started twice, once to be asked.
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={self._exit_timeout}",
            *(f"--{name}-address={HOST}" for name in self._ports),
            *(f"--{name}-port={port}" for name, port in self._ports.items()),
            f"--http-restricted-api={','.join(CLOSED_APIS)}:{key}",
            f"--grpc-infer-allocation-pool-size={GRPC_STATES}",
            f"--grpc-restricted-protocol={','.join(CLOSED_APIS)}:{key}",
        ]

    def _environment(self, distribution: Distribution) -> dict[str, str]:
        """The stub finds its packages as `python3` does: by PATH, so this interpreter leads."""
        inherited = dict(os.environ)
        inherited.pop("PYTHONHOME", None)
        libraries = [
            str(distribution.libraries),
            *([str(distribution.python_library)] if distribution.python_library else []),
            *([inherited["LD_LIBRARY_PATH"]] if inherited.get("LD_LIBRARY_PATH") else []),
        ]
        environment = (
            MALLOC
            | inherited
            | {
                "VIRTUAL_ENV": sys.prefix,
                "PATH": os.pathsep.join(
                    (str(Path(sys.executable).parent), inherited.get("PATH", os.defpath))
                ),
                "LD_LIBRARY_PATH": os.pathsep.join(libraries),
                "HF_HUB_OFFLINE": "1",  # the service fetches nothing
            }
        )
        if self._checkpoint is not None:
            environment["MELODYFLOW_CHECKPOINT"] = str(self._checkpoint.resolve())
        return environment | {f"MELODYFLOW_{name}": value for name, value in self._settings.items()}

    def _wait_until_ready(self, timeout: float) -> None:
        process = self._running()
        deadline = time.monotonic() + timeout
        stops = Stops(process.pid)
        while not self._is_ready():
            code = process.poll()
            if code is not None:
                raise EmbeddedError(
                    f"Triton did not start ({ending(code)}): {failure_reason(self._log_text())}"
                    f"{self._log_hint()}"
                )
            stopped = stops.look(models_of(process.pid))
            if stopped is not None:
                raise EmbeddedError(f"Triton did not start: {stopped}")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"Triton was not ready after {timeout:.0f} s; its log ends:\n{self.log_tail()}"
                    f"{self._log_hint()}"
                )
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        # Triton opens the port of the metrics last.
        return answers_http(self._ports["http"], "/v2/health/ready", 5.0) and answers_http(
            self._ports["metrics"], "/metrics", 5.0
        )

    def _log_text(self) -> str:
        """What this tritonserver, or the one before, has written."""
        try:
            with self.log.open("rb") if self.log else io.BytesIO() as log:
                log.seek(self._log_begin)
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def _log_hint(self) -> str:
        return (
            f"\n(the whole log: {self._log})" if self._log else "\n(--log FILE keeps the whole log)"
        )
