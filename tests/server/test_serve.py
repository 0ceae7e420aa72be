"""scripts/serve: it says when it is ready, refuses with the remedy, leaves nothing behind."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import melodyflow
from melodyflow.embedded import EmbeddedServer
from melodyflow.embedded.launch import MALLOC
from melodyflow.embedded.probe import HOST
from melodyflow.errors import EmbeddedError

from . import raw
from .conftest import read_metrics

# A model of a few lines: these tests are about processes, not about music.
CONFIG = """
name: "bare" backend: "python" max_batch_size: 1
model_transaction_policy { decoupled: true }
input [ { name: "x" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
MODEL = """
import os, sys, time
class TritonPythonModel:
    def initialize(self, args):
        import melodyflow
        settings = [os.environ["MELODYFLOW_SLOTS"], sys.prefix, melodyflow.__file__]
        print("settings:", *settings, "isolated:", sys.flags.isolated, flush=True)
        time.sleep(float(os.environ.get("MELODYFLOW_LOADING", "0")))
        if os.environ["MELODYFLOW_SLOTS"] == "none":
            raise ValueError('slots "none": a number is expected')
    def execute(self, requests): ...
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A model repository whose model loads at once."""
    folder = tmp_path / "repository" / "bare"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1" / "model.py").write_text(MODEL)
    return folder.parent


def command(checkpoint: Path, *more: str) -> list[str]:
    ports = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}-port", "0")]
    start = [sys.executable, "-m", "melodyflow.embedded.serve", "--checkpoint", str(checkpoint)]
    return [*start, *ports, "--set", "SLOTS=2", "--exit-timeout", "10", *more]


@contextmanager
def serving(
    arguments: list[str], until: str = "Press Ctrl-C to stop.", stdin: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and what it said up to the line `until`; killed in the end if it still runs."""
    with subprocess.Popen(
        arguments, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = ""
        try:
            while until and until not in said:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                said += line
            yield process, said
        finally:
            process.kill()


def family(process: subprocess.Popen[str]) -> list[str]:
    """Command lines of all that a serving process has started: each carries its name."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended meanwhile
            continue
        if f"melodyflow-{process.pid}-" in line:
            found.append(f"{entry.parent.name} {line}")
    return found


def member(process: subprocess.Popen[str], name: str) -> int:
    return next(int(line.split()[0]) for line in family(process) if line.split()[1].endswith(name))


def loading(process: subprocess.Popen[str]) -> bool:
    return any("triton_python_backend_stub" in line for line in family(process))


def leftovers(process: subprocess.Popen[str]) -> list[str]:
    files = [*Path("/dev/shm").iterdir(), *Path("/tmp").iterdir()]
    return family(process) + [
        str(path) for path in files if path.name.startswith(f"melodyflow-{process.pid}-")
    ]


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def status(port: int, method: str, path: str) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request(method, path, body="{}" if method == "POST" else None)
    return connection.getresponse().status


def test_real_model_is_served_on_loopback_and_ends_on_sigterm(checkpoint: Path) -> None:
    with serving(command(checkpoint)) as (process, said):
        assert said.startswith("MelodyFlow is ready")
        ports = {
            name.lower(): int(port)
            for name, port in re.findall(r"  (\w+) +(?:http://)?127\.0\.0\.1:(\d+)", said)
        }
        assert set(ports) == {"grpc", "http", "metrics"}
        assert f"--server 127.0.0.1:{ports['grpc']}" in said
        assert status(ports["http"], "GET", "/v2/models/melodyflow/ready") == 200
        assert status(ports["metrics"], "GET", "/metrics") == 200
        for closed in (
            "/v2/repository/index",
            "/v2/logging",
            "/v2/trace/setting",
            "/v2/systemsharedmemory/status",
        ):
            assert status(ports["http"], "POST" if "index" in closed else "GET", closed) >= 400, (
                closed
            )
        # 7F000001 in the kernel's byte order; gRPC listens on the same as an IPv4-mapped address.
        listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        for port in ports.values():
            found = re.findall(rf" ([0-9A-F]+):{port:04X} [0-9A-F]+:0000 0A ", listening)
            assert found in (["0100007F"], ["0000000000000000FFFF00000100007F"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert leftovers(process) == []


def test_ctrl_c_ends_it(checkpoint: Path, bare: Path) -> None:
    with serving(command(checkpoint, "--model-repository", str(bare))) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert leftovers(process) == []


def test_sigterm_while_loading_ends_it_at_once(checkpoint: Path, bare: Path) -> None:
    slow = command(checkpoint, "--model-repository", str(bare), "--set", "LOADING=60")
    with serving(slow, until="") as (process, _):
        assert eventually(lambda: process.poll() is not None or loading(process))
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert leftovers(process) == []


def killed_tritonserver(process: subprocess.Popen[str]) -> str:
    os.kill(member(process, "tritonserver"), signal.SIGKILL)
    return "tritonserver has ended (killed by SIGKILL)"


def killed_model(process: subprocess.Popen[str]) -> str:
    pid = member(process, "triton_python_backend_stub")
    os.kill(pid, signal.SIGKILL)
    return f"the model's process ({pid}) has ended"


def stopped_tritonserver(process: subprocess.Popen[str]) -> str:
    pid = member(process, "tritonserver")
    os.kill(pid, signal.SIGSTOP)
    return f"tritonserver's process ({pid}) is stopped"


def stopped_model(process: subprocess.Popen[str]) -> str:
    pid = member(process, "triton_python_backend_stub")
    os.kill(pid, signal.SIGSTOP)
    return f"the model's process ({pid}) is stopped"


FAULTS = [killed_tritonserver, killed_model, stopped_tritonserver, stopped_model]


def addresses(said: str) -> dict[str, str]:
    return dict(re.findall(r"  (\w+) +(?:http://)?(127\.0\.0\.1:\d+)", said))


def said_until(process: subprocess.Popen[str], words: str) -> str:
    """What a serving process says on stderr up to a line with these words."""
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def test_what_dies_or_stops_is_replaced_on_the_same_ports(
    checkpoint: Path, bare: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    arguments = command(checkpoint, "--model-repository", str(bare), "--log", str(log))
    with serving(arguments) as (process, said):
        port = int(addresses(said)["HTTP"].rpartition(":")[2])
        for fault in FAULTS:
            reason = fault(process)
            told = said_until(process, "ready again")
            assert reason in told
            assert f"The end of its log ({log}):\n" in told
            assert "Started HTTPService" in told  # the log's end
            assert status(port, "GET", "/v2/models/bare/ready") == 200
        assert log.read_text().count("Started HTTPService") == 1 + len(FAULTS), "nothing is lost"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert leftovers(process) == []


def test_a_pause_of_the_model_is_not_a_death(checkpoint: Path, bare: Path) -> None:
    with serving(command(checkpoint, "--model-repository", str(bare))) as (process, _):
        pid = member(process, "tritonserver")
        for _ in range(4):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.4)
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.6)
        assert member(process, "tritonserver") == pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "restarting" not in process.stderr.read()


def test_five_quick_deaths_in_a_row_end_it(checkpoint: Path, bare: Path) -> None:
    with serving(command(checkpoint, "--model-repository", str(bare))) as (process, _):
        for _ in range(4):
            killed_tritonserver(process)
            said_until(process, "ready again")
        killed_model(process)
        told = said_until(process, "(full log: ")
        assert "has ended; gave up after 5 deaths in a row. The end of its log:\n" in told
        assert process.wait(30) == 1
        kept = re.search(r"full log: (.*)\)", told)
        assert kept
        log = Path(kept[1])
        assert log.read_text().count("Started HTTPService") == 5, "the crashes' logs are kept"
        log.unlink()
        assert leftovers(process) == []


def test_deaths_among_requests_are_no_row_and_are_counted(checkpoint: Path, tmp_path: Path) -> None:
    """A client that brings the server down again and again does not end the service."""
    with serving(command(checkpoint, "--log", str(tmp_path / "log"))) as (process, said):
        urls = addresses(said)
        server: Any = SimpleNamespace(grpc_url=urls["gRPC"])
        for restarts in range(5):
            assert read_metrics(urls["metrics"])["melodyflow_restarts_total"] == restarts
            with pytest.raises(raw.Refused, match="prompt: "):
                raw.transform(server, {"prompt": ""})
            killed_tritonserver(process)
            assert "restarting. " in said_until(process, "ready again"), "without a delay"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.0, 0.1, 0.4, 1.0])
def test_a_signal_during_a_restart_ends_everything(
    checkpoint: Path, bare: Path, number: signal.Signals, after: float
) -> None:
    slow = command(checkpoint, "--model-repository", str(bare), "--set", "LOADING=1.5")
    with serving(slow) as (process, _):
        killed_tritonserver(process)
        kept = re.search(r"The end of its log \((.*)\):", said_until(process, "restarting"))
        time.sleep(after)
        process.send_signal(number)
        assert process.wait(30) == 0
        assert leftovers(process) == []
        assert kept
        Path(kept[1]).unlink()


def test_a_command_goes_on_over_a_restart(checkpoint: Path, bare: Path, tmp_path: Path) -> None:
    arguments = command(checkpoint, "--model-repository", str(bare), "--log", str(tmp_path / "log"))
    told = ["sh", "-c", "echo $MELODYFLOW_SERVER; read -r line; echo went on; exit 7"]
    with serving([*arguments, "--", *told], until="127.0.0.1:", stdin=subprocess.PIPE) as (
        process,
        said,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        killed_tritonserver(process)
        said_until(process, "ready again")
        grpc = int(said.strip().rpartition(":")[2])
        with socket.create_connection((HOST, grpc), 10):
            pass
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.readline() == "went on\n"
        assert process.wait(30) == 7
        assert leftovers(process) == []


def test_nothing_is_left_when_it_is_killed_itself(checkpoint: Path, bare: Path) -> None:
    with serving(command(checkpoint, "--model-repository", str(bare))) as (process, _):
        assert leftovers(process)
        process.kill()
        process.wait()
        assert eventually(lambda: leftovers(process) == []), leftovers(process)


def test_serving_only_while_a_command_runs(checkpoint: Path, bare: Path) -> None:
    arguments = command(checkpoint, "--model-repository", str(bare))
    told = ["sh", "-c", "echo $MELODYFLOW_SERVER; exit 7"]
    with serving([*arguments, "--", *told], until="127.0.0.1:") as (process, said):
        assert re.fullmatch(r"127\.0\.0\.1:\d+\n", said)
        assert process.wait(30) == 7
        assert leftovers(process) == []


def test_settings_and_environment_reach_the_model(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "melodyflow.py").write_text("raise ImportError('where the user happens to be')")
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with EmbeddedServer(
        None, **ports, settings={"slots": "7"}, model_repository=bare, log=log
    ) as server:
        assert server.http_url.startswith("127.0.0.1:")
        # isolated: the stub ignores PYTHONPATH and all of its kind; the image relies on it, too.
        assert f"settings: 7 {sys.prefix} {melodyflow.__file__} isolated: 1" in log.read_text()
    with pytest.raises(EmbeddedError, match="not started"):
        _ = server.pid


def test_malloc_is_set_for_tritonserver_and_not_for_the_model(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MALLOC:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")  # one's own goes to both
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with EmbeddedServer(None, **ports, settings={"slots": "1"}, model_repository=bare) as server:
        assert malloc_of(server.pid) == MALLOC | {"MALLOC_ARENA_MAX": "3"}
        (stub,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        assert malloc_of(int(stub)) == {"MALLOC_ARENA_MAX": "3"}


def malloc_of(pid: int) -> dict[str, str]:
    """What a process was told about malloc when it was started."""
    environment = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(line.split("=", 1) for line in environment if line.startswith("MALLOC_"))


def test_model_that_does_not_load_says_why(bare: Path) -> None:
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    server = EmbeddedServer(None, **ports, settings={"slots": "none"}, model_repository=bare)
    with pytest.raises(
        EmbeddedError, match=r'\): ValueError: slots "none": a number is expected\n'
    ):
        server.start(60)
    server.stop()  # has nothing to do


@pytest.mark.parametrize(("aborts", "lines"), [(2, 3), (9, 3)])
def test_an_abort_while_loading_is_tried_again_but_not_for_ever(
    bare: Path, tmp_path: Path, aborts: int, lines: int
) -> None:
    tried = tmp_path / "tried"
    model = bare / "bare" / "1" / "model.py"
    abort = f"""
import os, signal
with open({str(tried)!r}, "a") as tried:
    tried.write("tried\\n")
if len(open({str(tried)!r}).readlines()) <= {aborts}:
    os.kill(os.getppid(), signal.SIGABRT)
    signal.pause()
"""
    model.write_text(abort + model.read_text())
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    server = EmbeddedServer(None, **ports, settings={"slots": "1"}, model_repository=bare)
    try:
        if aborts < lines:
            server.start(60)
        else:
            with pytest.raises(EmbeddedError, match="killed by SIGABRT"):
                server.start(60)
    finally:
        server.stop()
    assert len(tried.read_text().splitlines()) == lines


def refusal(arguments: list[str], code: int = 1) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_taken_port_is_named_with_its_flag(checkpoint: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(command(checkpoint, "--grpc-port", str(port)))
    assert said == f"serve: port {port} is in use; choose another with --grpc-port\n"


def test_a_log_that_cannot_be_written_is_named(checkpoint: Path, tmp_path: Path) -> None:
    for log in (tmp_path / "none" / "log", tmp_path):
        said = refusal(command(checkpoint, "--log", str(log)))
        assert said.startswith(f"serve: --log {log}: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--exit-timeout", value) for value in ("-1", "1.5", "soon", "", "1" * 12)]
    + [("--start-timeout", value) for value in ("-1", "0", "nan", "inf", "soon")]
    + [("--http-port", "-1"), ("--grpc-port", "65536")],
)
def test_numbers_that_cannot_be_meant(checkpoint: Path, flag: str, value: str) -> None:
    code = 1 if "port" in flag else 2
    said = refusal(command(checkpoint, f"{flag}={value}"), code)
    assert f"{flag}{' ' if code == 1 else ': '}" in said
    assert value in said


def complaint(checkpoint: Path) -> str:
    with pytest.raises(EmbeddedError) as raised:
        EmbeddedServer(checkpoint, http_port=0, grpc_port=0, metrics_port=0).start()
    return str(raised.value)


def test_missing_checkpoint(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'}: no such" in refusal(command(tmp_path / "none"))


def test_unconverted_checkpoint_is_told_how_to_convert(root: Path) -> None:
    assert "run scripts/convert_weights" in complaint(root / "tests/data/parity/tiny")


@pytest.mark.parametrize("file", ["config.json", "flow.safetensors", "codec.safetensors"])
def test_truncated_checkpoint_names_the_file(checkpoint: Path, tmp_path: Path, file: str) -> None:
    broken = altered(checkpoint, tmp_path / "broken", file, lambda old: old[: len(old) // 2])
    assert str(broken / file) in complaint(broken)


def test_checkpoint_of_other_sizes_names_the_file(checkpoint: Path, tmp_path: Path) -> None:
    def widen(old: bytes) -> bytes:
        config = json.loads(old)
        config["flow"]["dim"] *= 2
        return json.dumps(config).encode()

    broken = altered(checkpoint, tmp_path / "broken", "config.json", widen)
    assert str(broken / "flow.safetensors") in complaint(broken)


def altered(checkpoint: Path, copy: Path, file: str, change: Callable[[bytes], bytes]) -> Path:
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / file).unlink()
    (copy / file).write_bytes(change((checkpoint / file).read_bytes()))
    return copy
