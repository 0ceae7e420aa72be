"""The container's entry point: runs one tritonserver and watches it.

    python3 -m melodyflow.embedded.container tritonserver [OPTION...]

It restarts nothing: when tritonserver dies or hangs it kills everything and exits with 1, so that
Docker or Kubernetes restarts the container. It needs only the standard library.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from melodyflow.embedded.probe import answers_http
from melodyflow.embedded.processes import KILL_AFTER, end_group, ending, models_of, runs
from melodyflow.embedded.repository import write_repository
from melodyflow.embedded.watch import LOOK_SECONDS, PROBE_TIMEOUT, Lasting, Stops, Watch
from melodyflow.serving.heartbeat import HEARTBEAT_VARIABLE

LOAD_SECONDS = 600.0
GONE_SECONDS = 10.0  # how long tritonserver may outlive the model's process while draining


def number_of(flag: str, command: list[str], default: int) -> int:
    """The value of a flag such as "http-port" in a tritonserver's command line."""
    number = default
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word.startswith(f"--{flag}="):
            number = int(word.partition("=")[2])
        elif word == f"--{flag}":
            number = int(after)
    return number


def with_settings(command: list[str], folder: Path) -> list[str]:
    """Replaces the model repositories in a tritonserver's command line by copies in `folder` whose
    configuration contains the settings in force."""
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
    """Runs a tritonserver until it ends, is signalled, or must be replaced. Returns its exit code,
    or 1."""
    if not command:
        print(
            "usage: python3 -m melodyflow.embedded.container tritonserver [OPTION...]",
            file=sys.stderr,
        )
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
                server.terminate()  # it drains; further signals have no effect

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
        if told:  # the signal came before `servers` had it
            server.terminate()
        reason = _load(server, http_port, told)
        if server.poll() == 0:
            return 0  # it only printed something, such as --help
        if reason is None and not told:
            reason = Watch(server, http_port, grpc_port, heartbeats).wait(lambda: bool(told))
        code = 1
        if told:
            code = _drain(server, number_of("exit-timeout-secs", command, 30) + KILL_AFTER)
        else:
            print(f"watch: {reason}; exiting for a restart", file=sys.stderr, flush=True)
        end_group(server.pid)
        server.wait()
    return code


def _load(server: subprocess.Popen[bytes], port: int, told: list[int]) -> str | None:
    """Waits until the server is ready or signalled. Returns why it must be replaced, if it must."""
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
    """Waits while the server drains. Returns its exit code, or 1 if it hangs: past its own timeout,
    or after its model's process, which ends first."""
    until = time.monotonic() + seconds
    models, stops, gone = models_of(server.pid), Stops(server.pid), Lasting()
    while True:
        code = server.poll()
        if code is not None:
            return code if code >= 0 else 128 - code
        reason = stops.look(models)
        ended = bool(models) and not any(runs(*model) for model in models.items())
        if gone.see(ended) >= GONE_SECONDS:
            reason = f"still running {GONE_SECONDS:g} s after its model ended"
        elif time.monotonic() > until:
            reason = "the exit timeout has passed"
        if reason is not None:
            print(f"watch: {reason}; killing tritonserver", file=sys.stderr, flush=True)
            return 1
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
