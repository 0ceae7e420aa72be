"""Starts and stops one tritonserver from the nvidia-pytriton wheel, without Docker.

For one machine, on loopback; use the Docker image for everything else. See `scripts/serve --help`.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from melodyflow.embedded.distribution import Distribution, find_distribution
from melodyflow.embedded.launch import LAUNCHER, backends_in, command, environment
from melodyflow.embedded.log import ServerLog, failure_reason
from melodyflow.embedded.ports import choose_ports
from melodyflow.embedded.probe import HOST, answers_http
from melodyflow.embedded.processes import KILL_AFTER, end_group, ending, models_of
from melodyflow.embedded.repository import write_repository
from melodyflow.embedded.signals import undisturbed
from melodyflow.embedded.watch import Stops, Watch
from melodyflow.errors import CheckpointError, EmbeddedError
from melodyflow.manifest import read_manifest
from melodyflow.serving.heartbeat import HEARTBEAT_VARIABLE, RESTARTS_VARIABLE

SHARED_MEMORY = Path("/dev/shm")
PACKAGES = Path(__file__).resolve().parents[2]  # the checkout, or site-packages
MODEL_REPOSITORY = PACKAGES / "model_repository"
DEMO_CHECKPOINT = PACKAGES / "checkpoints" / "demo"
EXIT_TIMEOUT = 60  # seconds that edits in flight have to finish
# This Triton aborts (boost's lock_exception) when the model's process gives no sign of life for a
# second while it loads, which it can't always help on a machine that is busy.
STARTS = 3
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

# Does stop()'s work if this process is killed before it can: then the pipe that `read` waits on
# closes. (dash doesn't accept `kill -KILL -- -PID` for a group.)
SWEEPER = """
read -r word; [ "$word" = ended ] && exit
server=$1 wait=$2 folder=$3 prefix=$4
kill -TERM "$server"
while kill -0 "$server" && [ "$wait" -gt 0 ]; do wait=$((wait - 1)); sleep 1; done
kill -s KILL -- "-$server"
rm -rf "$folder" "$prefix"*
"""


class AbortedError(EmbeddedError):
    """Tritonserver has aborted before it was ready."""


def check_checkpoint(folder: Path) -> None:
    """Raises EmbeddedError if `folder` isn't a converted checkpoint."""
    try:
        read_manifest(folder)
    except CheckpointError as error:
        raise EmbeddedError(str(error)) from error


class EmbeddedServer:
    """One tritonserver on loopback. A context manager: the server is ready inside and gone
    afterwards.

    Port 0 picks a free port, which the server keeps when it is restarted. `settings` reach the
    model as MELODYFLOW_<NAME> (DEVICE, PRECISION, SLOTS, ...) and override this process's
    environment and config.pbtxt. `log` is appended to; without it, Triton's log is deleted with the
    server. `exit_timeout`: seconds that edits in flight have to finish when the server is stopped.
    Not thread-safe. Raises EmbeddedError for invalid arguments.
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
            raise EmbeddedError(f"--exit-timeout {exit_timeout}: must be 0 or more seconds")
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
        self._written: ServerLog | None = None  # by the last tritonserver

    def start(self, timeout: float = 600.0, *, restarts: int = 0) -> None:
        """Starts the server and waits until its model is ready, at most `timeout` seconds.

        `restarts`: how often it has been restarted, for its metrics. On failure it cleans up and
        raises EmbeddedError with the reason.
        """
        if self._process is not None:
            raise EmbeddedError("already started")
        distribution = find_distribution()
        if not self._repository.is_dir():
            raise EmbeddedError(
                f"{self._repository}: no such model repository; run from a checkout or use "
                "--model-repository"
            )
        if self._checkpoint is not None:
            check_checkpoint(self._checkpoint)
        self._ports = self._wanted = choose_ports(self._wanted)
        deadline = time.monotonic() + timeout
        for left in reversed(range(STARTS)):
            try:
                with undisturbed():
                    self._launch(distribution, restarts)
                self._wait_until_ready(timeout, deadline)
            except BaseException as error:  # Ctrl-C while loading, too
                self.stop(at_once=True)
                if not isinstance(error, AbortedError) or left == 0:
                    raise
            else:
                return

    def stop(self, *, at_once: bool = False) -> None:
        """Stops the server. Edits in flight have the exit timeout to finish, unless `at_once`. Does
        nothing if it isn't running.
        """
        process = self._process
        if process is not None:
            try:
                if not at_once and process.poll() is None:
                    process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(self._exit_timeout + KILL_AFTER)
            finally:  # a second Ctrl-C ends the wait, not the cleanup
                with undisturbed():
                    self._tidy(process)

    def _tidy(self, process: subprocess.Popen[bytes]) -> None:
        # Kills the server if it is still there, and a stub that outlived it.
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
        """The tritonserver's process id. Raises EmbeddedError if it isn't running."""
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
        """The log of Triton and the model; None if the server isn't running and has no --log."""
        if self._log is not None:
            return self._log
        return self._folder / "triton.log" if self._folder else None

    def watch(self) -> Watch:
        """A watch on the running server. When it reports that the server must be replaced, call
        stop() and start()."""
        ports = self._ports
        return Watch(self._running(), ports["http"], ports["grpc"], self._heartbeats)

    def log_tail(self) -> str:
        """The last log lines of this tritonserver, or of the previous one, without tables."""
        return self._written.tail() if self._written else ""

    def keep_log(self, file: Callable[[], Path]) -> Path:
        """Appends this tritonserver's log to `file()`, unless --log keeps it anyway. Returns the
        path of the log."""
        if self._log is not None:
            return self._log
        kept = file()
        with kept.open("a") as output:
            output.write(self._written.text() if self._written else "")
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
        log = self.log
        assert log is not None
        try:
            output = log.open("ab")
        except OSError as error:
            raise EmbeddedError(
                f"--log {log}: {error.strerror}; the folder must exist and be writable"
            ) from None
        variables = environment(distribution, self._checkpoint, self._settings)
        words = command(
            distribution.binary,
            backends_in(self._folder, distribution),
            write_repository(self._repository, self._folder / "models", variables),
            shared_memory=self._prefix,
            ports=self._ports,
            exit_timeout=self._exit_timeout,
        )
        with output:
            self._written = ServerLog(log, output.tell())
            self._process = subprocess.Popen(
                ["sh", "-c", LAUNCHER, "sh", *words],
                env=variables
                | {HEARTBEAT_VARIABLE: str(self._heartbeats), RESTARTS_VARIABLE: str(restarts)},
                # The stub's Python ignores PYTHONPATH and searches its current folder first. This
                # makes it find this melodyflow, and nothing from the user's current folder.
                cwd=PACKAGES,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only this process, which stops the server
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

    def _wait_until_ready(self, timeout: float, deadline: float) -> None:
        process = self._running()
        stops = Stops(process.pid)
        while not self._is_ready():
            code = process.poll()
            if code is not None:
                kind = AbortedError if code == -signal.SIGABRT else EmbeddedError
                raise kind(
                    f"Triton didn't start ({ending(code)}): {self._failure_reason()}"
                    f"{self._log_hint()}"
                )
            stopped = stops.look(models_of(process.pid))
            if stopped is not None:
                raise EmbeddedError(f"Triton didn't start: {stopped}")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"Triton wasn't ready after {timeout:.0f} s; the end of its log:\n"
                    f"{self.log_tail()}{self._log_hint()}"
                )
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        # Triton opens the metrics port last.
        return answers_http(self._ports["http"], "/v2/health/ready", 5.0) and answers_http(
            self._ports["metrics"], "/metrics", 5.0
        )

    def _failure_reason(self) -> str:
        return failure_reason(self._written.text() if self._written else "")

    def _log_hint(self) -> str:
        return (
            f"\n(full log: {self._log})" if self._log else "\n(use --log FILE to keep the full log)"
        )
