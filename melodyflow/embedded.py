"""Finding, starting and ending the tritonserver in the nvidia-pytriton wheel: no Docker needed.

For one machine, on loopback; the Docker image is for everything else.
`python -m melodyflow.embedded --help` says how to use it.
"""

import argparse
import ctypes
import http.client
import importlib.metadata
import importlib.util
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import Self

HOST = "127.0.0.1"
SHARED_MEMORY = Path("/dev/shm")
PYTHONS = ((3, 11), (3, 12))
PACKAGES = Path(__file__).resolve().parent.parent  # the checkout, or site-packages
MODEL_REPOSITORY = PACKAGES / "model_repository"
EXIT_TIMEOUT = 60  # seconds that edits in flight have to end
# Seconds beyond the exit timeout after which Triton is killed: it may hang then while some client
# keeps a stream open.
KILL_AFTER = 5
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

# Port 0 is one of these. They lie below those that Linux gives to outgoing connections: between the
# choice and Triton's use of it, minutes later with a large model, such a connection could take it.
FREE_PORTS = range(20000, 32768)

# Nobody holds the key, so nobody can use these: tritonserver's own way to switch an API off.
CLOSED_APIS = ("model-repository", "shared-memory", "trace", "logging")

# This Triton's HTTP front end recurses on large JSON bodies (CVE-2025-23310); its threads get their
# stack from this limit. 512 MiB of address space carries bodies of 50 MB and more.
LAUNCHER = """ulimit -S -s 524288 2>/dev/null || ulimit -S -s "$(ulimit -H -s)"; exec "$@" """

# Does stop()'s work when this process is killed too hard to do it: its end closes the pipe that
# `read` waits on.
WATCHER = """
read -r word; [ "$word" = ended ] && exit
server=$1 wait=$2 folder=$3 prefix=$4
kill -TERM "$server"
while kill -0 "$server" && [ "$wait" -gt 0 ]; do wait=$((wait - 1)); sleep 1; done
kill -KILL -- "-$server"
rm -rf "$folder" "$prefix"*
"""


class EmbeddedError(RuntimeError):
    """The embedded server cannot be started or has ended; the message carries the remedy."""


@dataclass(frozen=True)
class Distribution:
    """What the wheel brings: binary, libraries, Python backend and the stub of this Python."""

    binary: Path
    libraries: Path
    backend: Path
    stub: Path
    python_library: Path | None  # folder of libpython; None: the loader finds it by itself


def find_distribution() -> Distribution:
    """Raises EmbeddedError where the wheel, a fitting Python, libpython or numpy 1 is missing."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.version_info[:2] not in PYTHONS:
        raise EmbeddedError(
            f"Python {version}: the embedded Triton runs with 3.11 or 3.12; set PYTHON to one of "
            "them and run the script again, or use the Docker image"
        )
    # Located only: importing the wheel's Python package would need dependencies of its own.
    package = importlib.util.find_spec("pytriton")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise EmbeddedError(
            "no embedded Triton: pip install --no-deps nvidia-pytriton==0.7.0 (scripts/env does), "
            "or use the Docker image"
        )
    home = Path(folders[0])
    server = home / "tritonserver"
    found = Distribution(
        binary=server / "bin" / "tritonserver",
        libraries=home.parent / "nvidia_pytriton.libs",
        backend=server / "backends" / "python",
        stub=server / "python_backend_stubs" / version / "triton_python_backend_stub",
        python_library=_python_library(version),
    )
    for path in (found.binary, found.libraries, found.backend, found.stub):
        if not path.exists():
            raise EmbeddedError(
                f"{path}: missing; pip install --force-reinstall --no-deps nvidia-pytriton==0.7.0"
            )
    numpy = importlib.metadata.version("numpy")
    if int(numpy.split(".")[0]) >= 2:
        raise EmbeddedError(
            f"numpy {numpy}: the embedded Triton's Python stub needs numpy 1: "
            "pip install 'numpy==1.26.4' (scripts/env does)"
        )
    return found


def _python_library(version: str) -> Path | None:
    name = f"libpython{version}.so.1.0"
    folder = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    for candidate in (folder, folder / str(sysconfig.get_config_var("MULTIARCH"))):
        if (candidate / name).exists():
            return candidate
    try:
        ctypes.CDLL(name)
    except OSError:
        raise EmbeddedError(
            f"{name} not found; the embedded Triton needs Python as a shared library: apt-get "
            f"install libpython{version} (Debian, Ubuntu), or a Python built with --enable-shared"
        ) from None
    return None


def check_checkpoint(folder: Path) -> None:
    """Raises EmbeddedError when `folder` is no converted checkpoint."""
    from melodyflow.model.checkpoint import CheckpointError, open_checkpoint  # imports torch: late

    try:
        open_checkpoint(folder, verify=False)
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


class EmbeddedServer:
    """One tritonserver on loopback. A context manager: ready inside, gone outside.

    Ports: 0 is a free one. `settings` reach the model as MELODYFLOW_<NAME> (DEVICE, PRECISION,
    SLOTS, ...), over the same names in this process's environment and over config.pbtxt. `log` is
    overwritten; without it Triton's log lives as long as the server. `exit_timeout`: seconds that
    edits in flight have to end when it is stopped. Not for use by several threads at once.
    """

    def __init__(
        self,
        checkpoint: Path | None,
        *,
        http_port: int = 8000,
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        settings: Mapping[str, str] = NO_SETTINGS,
        model_repository: Path | None = None,
        log: Path | None = None,
        exit_timeout: int = EXIT_TIMEOUT,
    ) -> None:
        self._checkpoint = checkpoint
        self._wanted = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        self._settings = {name.upper(): value for name, value in settings.items()}
        self._repository = (model_repository or MODEL_REPOSITORY).resolve()
        self._log = log
        self._exit_timeout = exit_timeout
        self._ports: dict[str, int] = {}
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._prefix = ""

    def start(self, timeout: float = 600.0) -> None:
        """Returns when the server and its model are ready, after at most `timeout` seconds.

        Raises EmbeddedError with the reason; nothing of the server is left then.
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
        self._ports = choose_ports(self._wanted)
        try:
            self._launch(distribution)
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
                self._tidy(process)

    def _tidy(self, process: subprocess.Popen[bytes]) -> None:
        # Ends the server if it is left, and the stub if that has outlived it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for leftover in SHARED_MEMORY.glob(f"{self._prefix}*"):
            leftover.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._watcher is not None:
            self._watcher.communicate(b"ended\n")
        self._process = self._watcher = self._folder = None

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

    def wait(self) -> None:
        """Blocks until the server ends by itself; raises EmbeddedError then."""
        code = self._running().wait()
        raise EmbeddedError(
            f"Triton has ended by itself ({_ending(code)}); its log ends:\n{self._log_tail()}"
        )

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedError("not started")
        return self._process

    def _launch(self, distribution: Distribution) -> None:
        name = f"melodyflow-{os.getpid()}-{secrets.token_hex(4)}-"
        self._prefix = name
        self._folder = Path(tempfile.mkdtemp(prefix=name))
        # Triton wants a backend and its stub in one folder; in the wheel they lie apart.
        backend = self._folder / "backends" / "python"
        shutil.copytree(distribution.backend, backend, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(distribution.stub, backend)
        log = self.log
        assert log is not None
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", LAUNCHER, "sh", *self._command(distribution.binary, backend.parent)],
                env=self._environment(distribution),
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
        self._watcher = subprocess.Popen(
            ["sh", "-c", WATCHER, "sh", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _command(self, binary: Path, backends: Path) -> list[str]:
        key = f"melodyflow={secrets.token_hex(16)}"
        return [
            str(binary),
            f"--model-repository={self._repository}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--model-control-mode=none",
            f"--exit-timeout-secs={self._exit_timeout}",
            *(f"--{name}-address={HOST}" for name in self._ports),
            *(f"--{name}-port={port}" for name, port in self._ports.items()),
            f"--http-restricted-api={','.join(CLOSED_APIS)}:{key}",
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
        environment = inherited | {
            "VIRTUAL_ENV": sys.prefix,
            "PATH": os.pathsep.join(
                (str(Path(sys.executable).parent), inherited.get("PATH", os.defpath))
            ),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "HF_HUB_OFFLINE": "1",  # the service fetches nothing
        }
        if self._checkpoint is not None:
            environment["MELODYFLOW_CHECKPOINT"] = str(self._checkpoint.resolve())
        return environment | {f"MELODYFLOW_{name}": value for name, value in self._settings.items()}

    def _wait_until_ready(self, timeout: float) -> None:
        process = self._running()
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            code = process.poll()
            if code is not None:
                raise EmbeddedError(
                    f"Triton did not start ({_ending(code)}): {failure_reason(self._log_text())}"
                    f"{self._log_hint()}"
                )
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"Triton was not ready after {timeout:.0f} s; its log ends:\n{self._log_tail()}"
                )
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._ports["http"], timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _log_text(self) -> str:
        try:
            return self.log.read_text(errors="replace") if self.log else ""
        except OSError:
            return ""

    def _log_tail(self) -> str:
        return "\n".join(self._log_text().splitlines()[-20:]) + self._log_hint()

    def _log_hint(self) -> str:
        return (
            f"\n(the whole log: {self._log})" if self._log else "\n(--log FILE keeps the whole log)"
        )


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and re.fullmatch(r"[A-Za-z_]+", name)):
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=VALUE is expected, SLOTS=4 for example")
    return name.upper(), value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/serve",
        description="Serves a checkpoint with an embedded Triton, on this machine only (loopback).",
        epilog="Port 0 is a free one. Settings: see model_repository/melodyflow/config.pbtxt.",
    )
    default = os.environ.get("MELODYFLOW_CHECKPOINT")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=default is None,
        default=default and Path(default),
        help="folder of a converted checkpoint (default: $MELODYFLOW_CHECKPOINT)",
    )
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="N", help=f"({port})")
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="a setting of the model, DEVICE=cpu for example; repeatable",
    )
    parser.add_argument("--model-repository", type=Path, metavar="DIR", help="(the checkout's)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep Triton's log here")
    parser.add_argument(
        "--exit-timeout",
        type=int,
        default=EXIT_TIMEOUT,
        metavar="SECONDS",
        help=f"for edits in flight, on Ctrl-C or SIGTERM ({EXIT_TIMEOUT}); a second one is at once",
    )
    parser.add_argument(
        "--start-timeout", type=float, default=600.0, metavar="SECONDS", help="for loading (600)"
    )
    parser.add_argument(
        "command",
        nargs="*",
        metavar="-- COMMAND",
        help="serve only while this runs, with the gRPC address in $MELODYFLOW_SERVER; its exit "
        "code is this one's",
    )
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(command: list[str], server: EmbeddedServer) -> int:
    """Runs a command against the server and gives its exit code."""
    environment = os.environ | {"MELODYFLOW_SERVER": server.grpc_url}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise EmbeddedError(f"{command[0]}: {error.strerror}") from None
    with process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)  # a terminal's Ctrl-C has reached it, too
            process.terminate()
            raise


def main() -> int:
    """Serves until Ctrl-C or SIGTERM: exit code 0; 1 with the reason on stderr for all else."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    server = EmbeddedServer(
        arguments.checkpoint,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        settings=dict(arguments.settings),
        model_repository=arguments.model_repository,
        log=arguments.log,
        exit_timeout=arguments.exit_timeout,
    )
    started = time.monotonic()
    try:
        server.start(arguments.start_timeout)
        ready = f"MelodyFlow is ready ({time.monotonic() - started:.1f} s)"
        if arguments.command:
            print(ready, file=sys.stderr, flush=True)  # stdout is the command's
            code = _run(arguments.command, server)
            server.stop()
            return code
        print(
            f"{ready}\n"
            f"  gRPC     {server.grpc_url}\n"
            f"  HTTP     http://{server.http_url}\n"
            f"  metrics  http://{server.metrics_url}/metrics\n"
            "Try: melodyflow transform examples/riff.wav --variation strings_quartet "
            f"-o strings.wav --server {server.grpc_url}\n"
            "Ctrl-C ends it.",
            flush=True,
        )
        server.wait()
    except EmbeddedError as error:
        print(f"serve: {error}", file=sys.stderr)
        server.stop()
        return 1
    except KeyboardInterrupt:
        print(
            f"ending (edits in flight have {arguments.exit_timeout} s; once more: at once)",
            file=sys.stderr,
            flush=True,
        )
        try:
            server.stop()
        except KeyboardInterrupt:
            server.stop(at_once=True)
        return 130 if arguments.command else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
