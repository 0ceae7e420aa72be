"""The container's entry point: one tritonserver, ended with all it has at the first death."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from melodyflow.embedded import MODEL_REPOSITORY, EmbeddedServer
from melodyflow.embedded.probe import answers_http
from melodyflow.embedded.processes import end_group, models_of, read_process

from . import raw


@pytest.fixture(scope="module")
def started(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, str], int]:
    """A real tritonserver's command line, its environment, and its HTTP port."""
    backends = tmp_path_factory.mktemp("entry") / "backends"
    settings = {"DEVICE": "cpu", "PRECISION": "fp32"}
    with EmbeddedServer(
        checkpoint, http_port=0, grpc_port=0, metrics_port=0, settings=settings
    ) as server:
        process = Path(f"/proc/{server.pid}")
        command = (process / "cmdline").read_text().rstrip("\0").split("\0")
        variables = (process / "environ").read_text().rstrip("\0").split("\0")
        folder = next(word for word in command if word.startswith("--backend-directory="))
        shutil.copytree(folder.partition("=")[2], backends)
        port = int(server.http_url.rpartition(":")[2])
    command[command.index(folder)] = f"--backend-directory={backends}"
    models = next(word for word in command if word.startswith("--model-repository="))
    command[command.index(models)] = f"--model-repository={MODEL_REPOSITORY}"
    return command, dict(line.split("=", 1) for line in variables), port


@contextmanager
def entry(
    started: tuple[list[str], dict[str, str], int], *, ready: bool = True
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The watcher and the pid of its tritonserver, which is ready, or has just begun."""
    command, environment, port = started
    with (
        subprocess.Popen(
            [sys.executable, "-m", "melodyflow.embedded.container", *command],
            env=environment,
            cwd=Path(__file__).resolve().parents[2],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert raw.eventually(children.read_text)
        if ready:
            assert raw.eventually(lambda: answers_http(port, "/v2/health/ready", 3.0))
        server = int(children.read_text())
        stack.callback(end_group, server)  # the next one takes its ports
        yield process, server


def ended(process: subprocess.Popen[str], server: int, model: int) -> str:
    """What the watcher said, once it and all others have ended."""
    _, said = process.communicate(timeout=60)
    for pid in (server, model):
        found = read_process(pid)
        assert found is None or found.state == "Z"
    return said


@pytest.mark.parametrize(
    ("whose", "number", "reason"),
    [
        ("tritonserver", signal.SIGKILL, r"tritonserver has ended \(killed by SIGKILL\)"),
        ("the model", signal.SIGKILL, r"the model's process \(\d+\) has ended"),
        ("the model", signal.SIGSTOP, r"the model's process \(\d+\) is stopped"),
    ],
)
def test_the_first_death_ends_everything(
    started: tuple[list[str], dict[str, str], int],
    whose: str,
    number: signal.Signals,
    reason: str,
) -> None:
    with entry(started) as (process, server):
        (model,) = models_of(server)
        os.kill(server if whose == "tritonserver" else model, number)
        said = ended(process, server, model)
        assert re.search(rf"watch: {reason}.*; exiting for a restart\n", said)
        assert process.returncode == 1


def test_the_configuration_tells_the_settings_in_force(
    started: tuple[list[str], dict[str, str], int],
) -> None:
    command, environment, port = started
    changed = command, environment | {"MELODYFLOW_MAX_SECONDS": "900"}, port
    with entry(changed) as (process, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/v2/models/melodyflow/config")
        told = json.loads(connection.getresponse().read())["parameters"]
        connection.close()
        process.terminate()
        process.communicate(timeout=60)
    assert told["max_seconds"]["string_value"] == "900"
    assert told["in_force"]["string_value"] == "true"


def test_sigterm_lets_tritonserver_end(started: tuple[list[str], dict[str, str], int]) -> None:
    with entry(started) as (process, server):
        (model,) = models_of(server)
        process.terminate()
        said = ended(process, server, model)
        assert "watch:" not in said
        assert process.returncode == 0


def test_a_stop_while_loading_ends_everything(
    started: tuple[list[str], dict[str, str], int],
) -> None:
    with entry(started, ready=False) as (process, server):
        (model,) = raw.eventually(lambda: models_of(server))
        os.kill(model, signal.SIGSTOP)
        said = ended(process, server, model)
        assert "is stopped (SIGSTOP); exiting for a restart" in said
        assert process.returncode == 1


def test_a_death_while_it_drains_is_seen(
    started: tuple[list[str], dict[str, str], int],
) -> None:
    """Triton would wait for its exit timeout, 60 s here, and longer."""
    command, _, _ = started
    port = next(word for word in command if word.startswith("--grpc-port=")).partition("=")[2]
    with entry(started) as (process, server):
        (model,) = models_of(server)
        endless = {"prompt": "a harp", "duration": 30.0, "steps": 128, "stream": True}
        address: Any = SimpleNamespace(grpc_url=f"127.0.0.1:{port}")
        with raw.Stream(address, endless) as stream:
            assert stream.next().outputs["stage"]
            process.terminate()
            time.sleep(1.0)
            os.kill(model, signal.SIGKILL)
            begun = time.monotonic()
            said = ended(process, server, model)
        assert time.monotonic() - begun < 40
        assert "still running 10 s after its model ended; killing tritonserver" in said
        assert process.returncode == 1
