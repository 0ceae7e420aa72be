"""What the watcher takes for a death, and what not; the processes are real, and no tritonserver."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from melodyflow.embedded import watch
from melodyflow.embedded.container import number_of
from melodyflow.embedded.probe import answers_http, answers_stream
from melodyflow.embedded.processes import STUB, end_group, models_of, read_process
from melodyflow.embedded.watch import Lasting, Probe, Watch
from melodyflow.serving.heartbeat import Heartbeat

# Stands for tritonserver: starts the model's process and waits for nothing.
PARENT = "import os, sys, time; os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]); time.sleep(60)"
FREE = 1  # a port where nobody answers, and so nobody is missed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    stub = tmp_path / "triton_python_backend_stub"
    shutil.copy(shutil.which("sleep") or "", stub)
    with group([sys.executable, "-S", "-c", PARENT, str(stub), "60"]) as process:
        until(lambda: bool(models_of(process.pid)))
        yield process


@contextmanager
def group(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children, which all end here."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            end_group(process.pid)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def watching(server: subprocess.Popen[bytes], heartbeats: Path) -> Watch:
    return Watch(server, FREE, FREE, heartbeats)


def reason(watched: Watch, seconds: float = 20.0) -> str:
    """Why the server is to be replaced, which must be found soon."""
    deadline = time.monotonic() + seconds
    found = watched.wait(lambda: time.monotonic() > deadline)
    assert found is not None
    return found


def quiet(watched: Watch, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    return watched.wait(lambda: time.monotonic() > deadline) is None


def test_a_server_that_has_ended(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    watched = watching(server, tmp_path / "none")
    assert quiet(watched, 0.6)
    server.kill()
    assert reason(watched) == "tritonserver has ended (killed by SIGKILL)"


def test_a_model_that_has_ended_is_a_zombie(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    watched = watching(server, tmp_path / "none")
    (model,) = models_of(server.pid)
    os.kill(model, signal.SIGKILL)
    assert reason(watched) == f"the model's process ({model}) has ended"


def test_a_model_that_ends_before_the_watch_begins(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (model,) = models_of(server.pid)
    os.kill(model, signal.SIGKILL)
    assert reason(watching(server, tmp_path / "none")) == f"the model's process ({model}) has ended"


@pytest.mark.parametrize(("does", "state"), [("cat", "S"), ("true", "Z")])
def test_a_stub_that_only_tells_its_version_is_no_model(
    tmp_path: Path, does: str, state: str
) -> None:
    stub = tmp_path / "triton_python_backend_stub"
    shutil.copy(shutil.which(does) or "", stub)
    by_another = [sys.executable, "-S", "-c", PARENT]
    with group([*by_another, *by_another, str(stub)]) as process:

        def tells_it() -> bool:
            grandchildren = [
                pid for child in children_of(process.pid) for pid in children_of(child)
            ]
            stubs = map(read_process, grandchildren)
            return any(stub and (stub.name, stub.state) == (STUB, state) for stub in stubs)

        until(tells_it)
        assert models_of(process.pid) == {}


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("whose", ["the model's", "tritonserver's"])
def test_who_is_stopped_for_long(
    server: subprocess.Popen[bytes], tmp_path: Path, whose: str
) -> None:
    watched = watching(server, tmp_path / "none")
    pid = server.pid if whose == "tritonserver's" else next(iter(models_of(server.pid)))
    os.kill(pid, signal.SIGSTOP)
    assert quiet(watched, 0.5)
    assert reason(watched) == f"{whose} process ({pid}) is stopped (SIGSTOP)"


def test_a_heart_that_stops(
    server: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MUTE_SECONDS", 1.0)
    heart, other = tmp_path / "beats" / "17", tmp_path / "beats" / "18"
    heart.parent.mkdir()
    watched = watching(server, heart.parent)
    deadline = time.monotonic() + 2.0

    def beat(*hearts: Path) -> bool:
        for one in hearts:
            one.touch()
            os.utime(one, ns=(0, time.monotonic_ns()))  # whatever the clock says: it moves
        return time.monotonic() > deadline

    assert watched.wait(lambda: beat(heart, other)) is None
    deadline = time.monotonic() + 20.0
    # Another model's heart is no excuse.
    found = watched.wait(lambda: beat(other))
    assert found == "the model's process (17) gave no sign of life for 1 s"
    assert not watched.took_a_request


def test_a_request_is_known_beyond_the_models_death(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "beats"
    folder.mkdir()
    watched = watching(server, folder)
    heart = Heartbeat(folder)
    until(lambda: (folder / str(os.getpid())).exists())
    assert not watched.took_a_request
    heart.took_a_request()
    heart.close()
    assert watched.took_a_request


def test_a_model_without_a_heart_is_not_missed(
    server: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MUTE_SECONDS", 0.5)
    assert quiet(watching(server, tmp_path / "none"), 1.5)


def test_a_pause_of_the_whole_machine_is_not_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lasting = Lasting()
    for _ in range(3):
        now += 0.25
        lasting.see(True)
    now += 3600.0  # paused
    assert lasting.see(True) == 0.75 + watch.MOST_BETWEEN < watch.MUTE_SECONDS
    assert lasting.see(False) == 0.0


def test_who_never_answered_is_not_missed_and_who_did_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now, answers = 0.0, False
    monkeypatch.setattr(time, "monotonic", lambda: now)
    probe = Probe("gRPC", lambda: answers)

    def ask_for(seconds: float) -> str | None:
        nonlocal now
        until = now + seconds
        reason = None
        while now < until and not reason:
            now += 2.0
            reason = probe.ask()
        return reason

    assert ask_for(100.0) is None
    answers = True
    assert ask_for(2.0) is None
    answers = False
    assert ask_for(watch.SILENT_SECONDS - 4.0) is None
    answers = True  # it was only slow
    assert ask_for(2.0) is None
    answers = False
    assert ask_for(60.0) == "tritonserver has not answered over gRPC for 20 s"


@contextmanager
def peer(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def drip(connection: socket.socket) -> None:
    """Bytes for ever, and never an answer."""
    try:
        for _ in range(200):
            connection.sendall(b"\0\0\1\6\0\0\0\0\0x")
            time.sleep(0.02)
    except OSError:
        pass


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda connection: connection.recv(1 << 16) and None,
        lambda connection: connection.sendall(b"\0\0"),
        drip,
    ],
    ids=["another protocol", "closed", "half a frame", "no end"],
)
@pytest.mark.parametrize("ask", ["http", "grpc"])
def test_what_is_not_an_answer(answer: Callable[[socket.socket], None], ask: str) -> None:
    with peer(answer) as port:
        begun = time.monotonic()
        if ask == "http":
            assert not answers_http(port, "/v2/health/live", 1.0)
        else:
            assert not answers_stream(port, 1.0)
        assert time.monotonic() - begun < 8.0
    assert not answers_stream(port, 1.0)  # nobody is there


def test_numbers_of_a_command_line() -> None:
    line = ["tritonserver", "--http-port=9000", "--grpc-port", "9001", "--http-port", "9002"]
    assert (number_of("http-port", line, 8000), number_of("grpc-port", line, 8001)) == (9002, 9001)
    assert number_of("metrics-port", line, 8002) == 8002
